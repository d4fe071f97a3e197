"""The compared clients, behind one small protocol.

Each contender waits for all ids in the way its users would, counts its errors by class, and
continues after an error. `OnResult` is called once for each result received.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import aiohttp
import fal_client
import httpx
import httpx_aiohttp

from benchmarks._local import MODEL
from modelmax_async import AsyncQueueClient, PollPolicy
from modelmax_async.events import Event, PollFailed

OnResult = Callable[[str], object]
Errors = Counter[str]
Get = Callable[[str], Awaitable[dict[str, object]]]

#: Concurrent calls of the semaphore and of our client, whose default this is.
MAX_IN_FLIGHT = 32
_PROBLEM = re.compile(r"\b(\w+(?:Timeout|Error))\b")


@dataclasses.dataclass
class Task:
    """The task of a contender.

    Attributes:
        url: the server.
        ids: the jobs to wait for.
        interval: seconds between two polls of a job, for contenders with a fixed interval.
        poll: the polling policy of our client.
        on_result: called with the id when a result arrives.
        errors: counts the errors by class.
    """

    url: str
    ids: Sequence[str]
    interval: float
    poll: PollPolicy
    on_result: OnResult
    errors: Errors = dataclasses.field(default_factory=Counter)


async def documented(get: Get, task: Task, request_id: str) -> None:
    """Run the loop of the API's documentation: poll until terminal, then get the result."""
    path = f"{task.url}/v1/queue/{MODEL}/requests/{request_id}"
    status: object = None
    while status not in {"COMPLETED", "FAILED"}:
        try:
            status = (await get(f"{path}/status"))["status"]
        except (httpx.HTTPError, aiohttp.ClientError, TimeoutError, KeyError) as exc:
            task.errors[type(exc).__name__] += 1
        if status not in {"COMPLETED", "FAILED"}:
            await asyncio.sleep(task.interval)
    while True:
        try:
            await get(path)
        except (httpx.HTTPError, aiohttp.ClientError, TimeoutError) as exc:
            task.errors[type(exc).__name__] += 1
            await asyncio.sleep(task.interval)
        else:
            task.on_result(request_id)
            return


async def _plain_httpx(
    task: Task, gate: AbstractAsyncContextManager[object], timeout: float | None = 5.0
) -> None:
    headers = {"authorization": "Bearer sk-benchmark"}
    async with httpx.AsyncClient(headers=headers, timeout=timeout) as client:

        async def get(url: str) -> dict[str, object]:
            async with gate:
                response = await client.get(url)
            response.raise_for_status()
            found: dict[str, object] = response.json()
            return found

        await asyncio.gather(*(documented(get, task, each) for each in task.ids))


async def documented_loop(task: Task) -> None:
    """Run the documented loop, one task per job, on a shared ``httpx.AsyncClient``."""
    await _plain_httpx(task, nullcontext())


async def patient_loop(task: Task) -> None:
    """Run the same without timeouts, because with them it makes no progress on many jobs."""
    await _plain_httpx(task, nullcontext(), timeout=None)


async def semaphore(task: Task) -> None:
    """Run the same behind a semaphore of `MAX_IN_FLIGHT`."""
    await _plain_httpx(task, asyncio.Semaphore(MAX_IN_FLIGHT))


async def aiohttp_by_hand(task: Task) -> None:
    """Run the documented loop on one aiohttp session with default settings."""
    headers = {"authorization": "Bearer sk-benchmark"}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:

        async def get(url: str) -> dict[str, object]:
            async with session.get(url) as response:
                found: dict[str, object] = await response.json()
                return found

        await asyncio.gather(*(documented(get, task, each) for each in task.ids))


async def fal(task: Task) -> None:
    """Run fal-client's own handle loop.

    fal-client always uses https for its queue host. A handle is a public value that contains
    its URLs and its client, so a copy of one handle is pointed at each job here.
    """
    pattern = await fal_client.AsyncClient(key="a:b").get_handle("an/app", "id")

    async def one(request_id: str) -> None:
        url = f"{task.url}/v1/queue/{MODEL}/requests/{request_id}"
        handle = dataclasses.replace(
            pattern, request_id=request_id, response_url=url, status_url=f"{url}/status"
        )
        while True:
            try:
                await handle.get(interval=task.interval)
            except (httpx.HTTPError, fal_client.FalClientHTTPError) as exc:
                task.errors[type(exc).__name__] += 1
                await asyncio.sleep(task.interval)
            else:
                task.on_result(request_id)
                return

    async with pattern.client:
        await asyncio.gather(*(one(each) for each in task.ids))


async def _ours(
    task: Task, http_client: httpx.AsyncClient | httpx.AsyncBaseTransport | None
) -> None:
    def count(event: Event) -> None:
        if isinstance(event, PollFailed):
            found = _PROBLEM.search(event.cause)
            task.errors[found[1] if found else event.cause[:60]] += 1

    async with AsyncQueueClient(
        api_key="sk-benchmark",
        base_url=task.url,
        model=MODEL,
        poll=task.poll,
        max_in_flight=MAX_IN_FLIGHT,
        http_client=http_client,
        hooks=[count],
    ) as client:
        await client.gather_results(
            task.ids,
            timeout=None,
            on_outcome=lambda o: o.job and task.on_result(o.job.request_id),
        )


async def ours(task: Task) -> None:
    """Run ``gather_results`` with default settings."""
    await _ours(task, None)


async def ours_aiohttp(task: Task) -> None:
    """Run ``gather_results`` on the transport of the ``aiohttp`` extra."""
    async with httpx_aiohttp.AiohttpTransport() as transport:
        await _ours(task, transport)


async def ours_aiohttp_client(task: Task) -> None:
    """Run the same with that transport in the caller's own ``httpx.AsyncClient``."""
    async with httpx.AsyncClient(transport=httpx_aiohttp.AiohttpTransport()) as client:
        await _ours(task, client)


CONTENDERS: dict[str, Callable[[Task], Coroutine[Any, Any, None]]] = {
    "documented loop, httpx": documented_loop,
    "documented loop, no timeouts": patient_loop,
    "httpx behind a semaphore": semaphore,
    "fal-client": fal,
    "aiohttp by hand": aiohttp_by_hand,
    "ours": ours,
    "ours, aiohttp extra": ours_aiohttp,
    "ours, aiohttp in a client": ours_aiohttp_client,
}

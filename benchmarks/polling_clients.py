"""The contenders of the polling benchmark that speak this API: the documented loop, and ours.

Each has a dial, the number that it trades polls for lag with, and a default for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

from benchmarks._local import MODEL
from benchmarks.contenders import Task, documented
from modelmax_async import (
    AdaptivePolicy,
    AsyncQueueClient,
    Job,
    MemoryLedger,
    PollingPolicy,
    PollPolicy,
)

OnResult = Callable[[str], object]

#: Seconds between two polls in the documented example.
INTERVAL = 5.0
#: The longest interval of `PollPolicy` by default, in seconds.
MAXIMUM = 10.0
#: Seconds of lag that one poll is worth: the default of `AdaptivePolicy`, and the prices of
#: the figures of every contender.
POLL_COST = 0.2


class Waiter:
    """Submits jobs to the server at ``url``, and waits for their results.

    By default a job is submitted with a plain POST, and each job is waited for in a task.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def submit(self, prompt: str) -> str:
        """Submit a job, and return its id."""
        url = f"{self._url}/v1/queue/{MODEL}"
        async with self._session.post(url, json={"prompt": prompt}) as response:
            return str((await response.json())["request_id"])

    async def wait(self, request_id: str) -> None:
        """Wait until the result is received."""
        raise NotImplementedError

    async def gather(self, ids: Sequence[str], on_result: OnResult) -> None:
        """Wait for all ids, and report each as its result is received."""

        async def one(request_id: str) -> None:
            await self.wait(request_id)
            on_result(request_id)

        await asyncio.gather(*(one(each) for each in ids))


MakeWaiter = Callable[[str], AbstractAsyncContextManager[Waiter]]


@asynccontextmanager
async def plain_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open an aiohttp session whose timeouts do not end sooner on a fast loop."""
    unlimited = aiohttp.ClientTimeout(total=None, sock_connect=None)
    async with aiohttp.ClientSession(timeout=unlimited, raise_for_status=True) as session:
        yield session


class _Documented(Waiter):
    def __init__(self, url: str, session: aiohttp.ClientSession, interval: float) -> None:
        super().__init__(url, session)
        self._interval = interval

    async def wait(self, request_id: str) -> None:
        async def get(url: str) -> dict[str, object]:
            async with self._session.get(url) as response:
                found: dict[str, object] = await response.json()
                return found

        task = Task(self._url, (), self._interval, PollPolicy(), str)
        await documented(get, task, request_id)
        if task.errors:
            raise RuntimeError(f"the documented loop had errors: {task.errors}")


@asynccontextmanager
async def documented_loop(url: str, interval: float | None = None) -> AsyncIterator[Waiter]:
    """Run the documented loop on one aiohttp session: poll at once, then every interval."""
    async with plain_session() as session:
        yield _Documented(url, session, interval or INTERVAL)


class _Ours(Waiter):
    def __init__(self, client: AsyncQueueClient) -> None:
        self._client = client
        self._jobs: dict[str, Job] = {}

    async def submit(self, prompt: str) -> str:
        job = await self._client.submit(prompt)
        self._jobs[job.request_id] = job
        return job.request_id

    async def wait(self, request_id: str) -> None:
        await self._client.wait_for(self._jobs.pop(request_id), timeout=None)

    async def gather(self, ids: Sequence[str], on_result: OnResult) -> None:
        await self._client.gather_results(
            ids,
            timeout=None,
            on_outcome=lambda o: o.job and on_result(o.job.request_id),
        )


@asynccontextmanager
async def _ours(url: str, poll: PollingPolicy, ledger: MemoryLedger) -> AsyncIterator[Waiter]:
    async with AsyncQueueClient(
        api_key="sk-benchmark",
        base_url=url,
        model=MODEL,
        poll=poll,
        ledger=ledger,
        timeout=None,  # on a fast loop, a timeout ends a request too soon
    ) as client:
        yield _Ours(client)


def backoff(
    url: str, ledger: MemoryLedger, maximum: float | None = None
) -> AbstractAsyncContextManager[Waiter]:
    """Run our client with plain backoff."""
    return _ours(url, PollPolicy(maximum=maximum or MAXIMUM), ledger)


def adaptive(
    url: str,
    ledger: MemoryLedger,
    poll_cost: float | None = None,
    maximum: float | None = None,
) -> AbstractAsyncContextManager[Waiter]:
    """Run our client with the policy that learns, and keeps what it learnt in the ledger."""
    policy = AdaptivePolicy(
        poll_cost=poll_cost or POLL_COST, maximum=maximum or AdaptivePolicy().maximum
    )
    return _ours(url, policy, ledger)

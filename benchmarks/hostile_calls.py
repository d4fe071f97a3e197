"""What a client calls to meet the inputs of the benchmark `hostile`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from modelmax_async import (
    AsyncQueueClient,
    ModelMaxError,
    PollPolicy,
    Result,
    RetryPolicy,
    Video,
)

#: What became of an input, and the seconds that a neighbour's own call took.
Outcome = tuple[str, float | None]
Run = Callable[[AsyncQueueClient], Awaitable[Outcome]]
#: Jobs that are added at once; more would themselves hold up the event loop.
_FEW = 50


@dataclasses.dataclass(frozen=True)
class Input:
    """One input: how a client meets it, and the seconds that this may take."""

    title: str
    run: Run
    limit: float = 6.0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def client_of(url: str, given: Input) -> AsyncQueueClient:
    """Return a client that gives up soon."""
    options = {
        "poll": PollPolicy(initial=20.0, maximum=20.0),
        "retry": RetryPolicy(initial=0.05, attempts=2, give_up_after=1.0),
        **given.options,
    }
    return AsyncQueueClient(api_key="sk-benchmark", base_url=url, model="veo-3", **options)


async def warm_up(client: AsyncQueueClient) -> None:
    """Make calls that succeed and calls that fail, so that everything is imported."""
    await client.submit("warm")
    await _download(client, await client.wait_for("warm-0"))
    for call in (client.status("missing-0"), client.result("unreadable-0")):
        with contextlib.suppress(ModelMaxError):
            await call
    away = Result("warm-1", "veo-3", (Video("https://127.0.0.1/v.mp4", 0),))
    with contextlib.suppress(ModelMaxError):
        await _download(client, away)
    await asyncio.sleep(0.1)


async def _ending(work: Awaitable[Any]) -> str:
    """Return how a call ends, in a word or two."""
    try:
        await work
    except (ModelMaxError, ValueError) as exc:
        return type(exc).__name__
    return "returned"


def submit(attack: str) -> Run:
    """Submit a job."""

    async def run(client: AsyncQueueClient) -> Outcome:
        return await _ending(client.submit(attack)), None

    return run


def status(attack: str) -> Run:
    """Ask for the status of a job once."""

    async def run(client: AsyncQueueClient) -> Outcome:
        return await _ending(client.status(f"{attack}-0")), None

    return run


def waiting(attack: str, jobs: int, seconds: float) -> Run:
    """Wait for many jobs, which are added little by little."""

    async def run(client: AsyncQueueClient) -> Outcome:
        waits = []
        for start in range(0, jobs, _FEW):
            ids = [f"{attack}-{number}" for number in range(start, min(start + _FEW, jobs))]
            wait = client.gather_results(ids, timeout=seconds, return_exceptions=True)
            waits.append(asyncio.create_task(wait))
            await asyncio.sleep(0.02)
        ended = {type(one).__name__ for wait in waits for one in await wait}
        return "waited for" if ended == {"JobTimeoutError"} else ", ".join(sorted(ended)), None

    return run


def fetch(attack: str) -> Run:
    """Fetch a paid result, and say whether the ledger has it."""

    async def run(client: AsyncQueueClient) -> Outcome:
        job = f"{attack}-0"
        ending = await _ending(client.wait_for(job, timeout=30.0))
        stored = job in {one.request_id for one in await client.stored()}
        open_ = {entry.job.request_id: entry for entry in await client.unresolved()}
        where = "stored" if stored else "uncertain" if job in open_ else "not billed"
        cause = (open_[job].cause or "") if job in open_ else ""
        kept = [str(path) for path in _kept()]
        if kept:
            where += ", kept on disk" if kept[0] in cause else ", ORPHANED file"
        return f"{ending}; {where}", None

    return run


def _kept() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("modelmax-result-*"))


def fetch_and_save(attack: str) -> Run:
    """Fetch a paid result, show it as a debugger would, and save its videos."""

    async def run(client: AsyncQueueClient) -> Outcome:
        ending = await _ending(client.wait_for(f"{attack}-0", timeout=30.0))
        for result in await client.stored():
            if result.request_id != f"{attack}-0":
                continue
            with contextlib.suppress(ModelMaxError):
                found = await client.wait_for(result)
                repr(found)
                ending += f"; download {await _ending(_download(client, found))}"
        return ending, None

    return run


async def _download(client: AsyncQueueClient, result: Result) -> None:
    directory = Path(tempfile.gettempdir(), "videos")
    await client.download(result, directory, max_bytes=64 * 1024 * 1024)


def _video(attack: str, number: int = 0) -> Result:
    url = f"/v1/queue/veo-3/requests/{attack}-{number}/content/0"
    return Result(f"{attack}-{number}", "veo-3", (Video(url, 0),))


def download(attack: str) -> Run:
    """Download a video."""

    async def run(client: AsyncQueueClient) -> Outcome:
        return await _ending(_download(client, _video(attack))), None

    return run


async def drip(client: AsyncQueueClient) -> Outcome:
    """Hold the slots of all downloads with drips, and start an honest download."""
    drips = [
        asyncio.create_task(_ending(_download(client, _video("content_drip", number))))
        for number in range(2)
    ]
    await asyncio.sleep(0.2)
    begun = time.perf_counter()
    ending = await _ending(_download(client, _video("honest")))
    waited = time.perf_counter() - begun
    for task in drips:
        task.cancel()
    return f"honest download {ending} after {waited:.1f} s", None


async def slow_names(client: AsyncQueueClient) -> Outcome:
    """Download from 200 hosts whose names take 3 s each, beside a neighbour's own look-up."""
    plain, asked = socket.getaddrinfo, []

    def slow(host: Any, *rest: Any, **options: Any) -> Any:
        if str(host).endswith(".films.example"):
            asked.append(host)
            time.sleep(3.0)
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return plain(host, *rest, **options)

    socket.getaddrinfo = slow
    tasks = []
    for number in range(200):
        video = Video(f"https://h{number}.films.example/v.mp4", 0)
        result = Result(f"slow-{number}", "veo-3", (video,))
        tasks.append(asyncio.create_task(_ending(_download(client, result))))
        await asyncio.sleep(0)
    busy = 0
    while not busy or busy < len(asked):  # until every thread there is waits for a name
        busy = len(asked)
        await asyncio.sleep(0.5)
    begun = time.perf_counter()
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    waited = time.perf_counter() - begun
    for task in tasks:
        task.cancel()
    return f"neighbour's look-up took {waited:.1f} s", waited

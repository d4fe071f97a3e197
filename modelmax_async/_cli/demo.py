"""The demo: eight jobs on a local ModelMax, each fetched and saved as it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from modelmax_async._client import AsyncQueueClient
from modelmax_async._errors import JobFailedError
from modelmax_async._models import Failed, Job, Status, Succeeded
from modelmax_async._polling.forecast import Expected
from modelmax_async._polling.policies import AdaptivePolicy
from modelmax_async.emulator import Emulator, JobScript
from modelmax_async.events import Event, StatusPolled

_SCENES = (
    ("Coral reef", 4.0),
    ("Rain on a roof", 2.0),
    ("Paper boat", 6.0),
    ("Alps time lapse", 1.0),
    ("Fox in the snow", 8.0),
    ("Neon in the fog", 3.0),
    ("Potter at work", 7.0),
    ("Waves at a pier", 5.0),
)
_FAILING = 6  # the number of the job that fails
_REASON = "the provider refused the prompt"
_KEY = "sk-emulator"
_TICK = 0.1  # seconds between two updates of the progress


@attrs.define
class Row:
    """The data of one job that the demo shows."""

    number: int  # from 1
    prompt: str
    script: JobScript
    status: str = "-"  # the last one received
    polls: int = 0  # status calls so far; in the end, those that the server counted
    billed: int = 0  # billed calls that the server counted
    error: str = ""  # why the job FAILED
    files: Sequence[Path] = ()
    size: int = 0  # bytes of all files
    job: Job | None = None
    left: float | None = None  # the expected seconds to go, as far as was learnt
    progress: float = 0.0  # from 0 to 1, as far as was learnt

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.status in {Status.COMPLETED, Status.FAILED}


def new_rows(speed: float) -> list[Row]:
    """Return the eight jobs, ``speed`` times faster than normal."""
    return [
        Row(
            number,
            prompt,
            JobScript(
                queue_seconds=seconds / speed / 4,
                run_seconds=seconds / speed * 3 / 4,
                outcome="FAILED" if number == _FAILING else "COMPLETED",
                error=_REASON,
            ),
        )
        for number, (prompt, seconds) in enumerate(_SCENES, 1)
    ]


async def run(
    rows: Sequence[Row], directory: Path, *, speed: float, tell: Callable[[Row], object]
) -> int:
    """Submit the jobs, save each video as its job ends, then request all results again.

    The rows are updated, and ``tell`` is called with each that has changed. The polling is
    ``speed`` times faster than normal too. Returns how many calls the server has billed.
    """
    emulator = Emulator(api_key=_KEY, record=False)
    emulator.script(*(row.script for row in rows))
    known: dict[str, Row] = {}

    def on_event(event: Event) -> None:
        if isinstance(event, StatusPolled):
            row = known[event.job.request_id]
            row.status, row.polls = str(event.status), row.polls + 1
            tell(row)

    poll = AdaptivePolicy(poll_cost=0.2 / speed, minimum=0.1 / speed, maximum=1.0 / speed)
    async with (
        emulator.serve() as url,
        AsyncQueueClient(
            api_key=_KEY, base_url=url, model="veo-3", poll=poll, hooks=[on_event]
        ) as client,
    ):
        jobs: list[Job] = []
        for row in rows:
            row.job = await client.submit(row.prompt)
            jobs.append(row.job)
            known[row.job.request_id] = row
        ticking = asyncio.create_task(_tick(client, rows))
        try:
            async for outcome in client.as_completed(jobs):
                assert outcome.job is not None  # noqa: S101 - every job was submitted
                row = known[outcome.job.request_id]
                await _finish(client, row, outcome, directory)
                tell(row)
        finally:
            ticking.cancel()
        for job in jobs:
            row = known[job.request_id]
            row.polls = emulator.polls[job.request_id]
            row.billed = emulator.billed[job.request_id]
        await client.gather_results(jobs, return_exceptions=True)
    return emulator.billed_total


async def _tick(client: AsyncQueueClient, rows: Sequence[Row]) -> None:
    """Update the progress of the rows from what the client has learnt."""
    while True:
        for row in rows:
            update(row, None if row.job is None else client.expected(row.job), time.time())
        await asyncio.sleep(_TICK)


def update(row: Row, expected: Expected | None, now: float) -> None:
    """Update the progress of a row whose job still runs; ``now`` is seconds since the epoch."""
    if row.job is None or row.job.submitted_at is None or row.ended or expected is None:
        return
    age = max(0.0, now - row.job.submitted_at)
    row.left, row.progress = expected.median, age / (age + expected.median)


async def _finish(
    client: AsyncQueueClient, row: Row, outcome: Succeeded | Failed, directory: Path
) -> None:
    if outcome.error is None:
        row.files = await client.download(outcome.result, directory)
        row.size = await asyncio.to_thread(_size_of, row.files)
    elif isinstance(outcome.error, JobFailedError):
        row.error = outcome.error.error
    else:
        raise outcome.error


def _size_of(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)

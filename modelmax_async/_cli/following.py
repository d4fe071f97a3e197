"""Jobs that are followed to their end: found in the ledger, waited for, saved, reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

import attrs

from modelmax_async._cli.exits import Exit, Failure
from modelmax_async._cli.options import Target
from modelmax_async._cli.report import Report
from modelmax_async._client import AsyncQueueClient
from modelmax_async._errors import ModelMaxError
from modelmax_async._models import Failed, Job, Succeeded

_AT_ONCE = 16  # results that are saved at once


async def find_jobs(
    client: AsyncQueueClient, request_ids: Sequence[str], model: str | None
) -> list[Job]:
    """Return the jobs of some ids: from the ledger, else of this model.

    Raises:
        Failure: for an id that cannot be one, or of which no model is known.
    """
    known = by_id([*await client.pending(), *await client.stored()])
    return [known.get(request_id) or _job(request_id, model) for request_id in request_ids]


def by_id(jobs: Iterable[Job]) -> dict[str, Job]:
    """Return the jobs by their request ids."""
    return {job.request_id: job for job in jobs}


def _job(request_id: str, model: str | None) -> Job:
    if model is None:
        raise Failure(f"the ledger has no open job {request_id}: pass --model", Exit.USAGE)
    try:
        return Job(model, request_id)
    except ValueError as exc:
        raise Failure(str(exc), Exit.USAGE) from None


async def fetched(
    client: AsyncQueueClient, jobs: Sequence[Job], *, accept_second_charge: bool = False
) -> AsyncGenerator[Succeeded | Failed, None]:
    """Yield the outcome of asking for each result: a stored one is served by the ledger."""
    for job in jobs:
        try:
            result = await client.result(job, accept_second_charge=accept_second_charge)
        except ModelMaxError as exc:
            yield Failed(job, exc)
        else:
            yield Succeeded(job, result)


async def save_and_report(
    client: AsyncQueueClient,
    outcomes: AsyncGenerator[Succeeded | Failed, None],
    report: Report,
    target: Target | None,
) -> None:
    """Report each outcome, once its videos are saved, if there is a target."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def finish(outcome: Succeeded | Failed) -> None:
        try:
            report.ended(await _saved(client, outcome, target))
        finally:
            room.release()

    try:
        async with report.progress(client), asyncio.TaskGroup() as saving, aclosing(outcomes):
            async for outcome in outcomes:
                await room.acquire()
                saving.create_task(finish(outcome))
    except ExceptionGroup as exc:  # such as a closed pipe
        raise exc.exceptions[0] from None


async def _saved(
    client: AsyncQueueClient, outcome: Succeeded | Failed, target: Target | None
) -> Succeeded | Failed:
    if outcome.error is not None or target is None:
        return outcome
    try:
        paths = await client.download(outcome.result, target.directory, name=target.name)
    except ModelMaxError as exc:
        return Failed(outcome.job, exc)
    return attrs.evolve(outcome, paths=tuple(paths))

"""The commands on a ledger: its lists, its downloads, its uncertain jobs, and its size."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta

import click

from modelmax_async._cli.exits import Exit, Failure
from modelmax_async._cli.following import by_id, fetched, save_and_report
from modelmax_async._cli.listing import print_entries, print_jobs, print_line, print_usage
from modelmax_async._cli.options import Session, Target, age, session_options, target_options
from modelmax_async._cli.records import as_line, printable, time_of
from modelmax_async._cli.report import Report
from modelmax_async._models import Job, LedgerEntry, LedgerUsage


@click.command(short_help="List the jobs that have not ended.")
@session_options
def pending(*, session: Session) -> None:
    """List the jobs of the ledger that have neither a stored result nor failed.

    Each line has the request id, the model, when it was submitted, and the key.
    """

    async def load() -> list[Job]:
        async with session.reader() as client:
            return await client.pending()

    print_jobs(asyncio.run(load()), as_json=session.as_json)


@click.command(short_help="List the jobs that are paid for.")
@click.option("--unsaved", is_flag=True, help="Only those whose videos are not saved yet.")
@session_options
def stored(*, session: Session, unsaved: bool) -> None:
    """List the jobs whose paid results are in the ledger.

    Each line has the request id, the model, when it was submitted, and the key.
    """

    async def load() -> list[Job]:
        async with session.reader() as client:
            return await client.stored(unsaved=unsaved)

    print_jobs(asyncio.run(load()), as_json=session.as_json)


@click.command(short_help="List the jobs of uncertain charge.")
@session_options
def unresolved(*, session: Session) -> None:
    """List the jobs whose billed call has an uncertain outcome, to be decided by resolve.

    Each line has the request id, the model, since when it is uncertain, the key, and what
    happened.
    """
    print_entries(asyncio.run(_unresolved(session)), as_json=session.as_json)


async def _unresolved(session: Session) -> list[LedgerEntry]:
    async with session.reader() as client:
        return await client.unresolved()


@click.command(short_help="Add up what is paid for.")
@session_options
def usage(*, session: Session) -> None:
    """Add up the results, videos and seconds that the ledger has paid for, by model.

    The seconds are those that the server states for each result. What the sum does not contain
    is told on standard error.
    """

    async def load() -> LedgerUsage:
        async with session.reader() as client:
            return await client.usage()

    print_usage(asyncio.run(load()), as_json=session.as_json)


@click.command(short_help="Save videos that are paid for.")
@click.argument("request_ids", metavar="[ID]...", nargs=-1)
@click.option("--unsaved", is_flag=True, help="Every stored job that is not saved yet.")
@target_options(required=True)
@session_options
def download(
    *,
    session: Session,
    request_ids: Sequence[str],
    unsaved: bool,
    target: Target,
) -> None:
    """Save the videos of results that the ledger has. Nothing is billed."""
    if unsaved == bool(request_ids):
        raise click.UsageError("pass either ids or --unsaved")
    work = _download(session, request_ids, target)
    click.get_current_context().exit(asyncio.run(work))


async def _download(session: Session, request_ids: Sequence[str], target: Target) -> Exit:
    report = Report(0, as_json=session.as_json)
    async with session.client([report.on_event]) as client:
        found = by_id(await client.stored(unsaved=not request_ids))
        for request_id in request_ids:
            if request_id not in found:
                raise Failure(
                    f"the ledger has no result of job {request_id}: modelmax wait {request_id} "
                    "fetches it, which is billed",
                    Exit.USAGE,
                )
        jobs = [found[name] for name in dict.fromkeys(request_ids)] or list(found.values())
        report.tally.total = len(jobs)
        await save_and_report(client, fetched(client, jobs), report, target)
    return report.exit


@click.command(short_help="Decide about an uncertain job.")
@click.argument("request_id", metavar="ID")
@click.option("--fetch-again", is_flag=True, help="Fetch the result: perhaps a second charge.")
@click.option("--forget", is_flag=True, help="Give the job up, and never fetch it again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@target_options()
@session_options
def resolve(
    *,
    session: Session,
    request_id: str,
    fetch_again: bool,
    forget: bool,
    yes: bool,
    target: Target | None,
) -> None:
    """Decide about a job whose billed call has an uncertain outcome.

    Check the usage of the account first. It asks before it does anything, unless --yes is
    given.
    """
    if fetch_again == forget:
        raise click.UsageError("pass either --fetch-again or --forget")
    found = [e for e in asyncio.run(_unresolved(session)) if e.job.request_id == request_id]
    if not found:
        raise Failure(f"job {request_id} is not among the unresolved ones", Exit.USAGE)
    if not yes:
        _confirm(_question(found[0], fetch_again=fetch_again))
    if forget:
        asyncio.run(_forget(session, found[0].job))
        click.echo(printable(f"Job {request_id} is given up."), err=True)
        return
    work = _fetch_again(session, found[0].job, target)
    click.get_current_context().exit(asyncio.run(work))


def _confirm(question: str) -> None:
    """Ask on standard error, so that nothing but results is on standard output."""
    click.echo(printable(f"{question} [y/N] "), err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Failure("not confirmed, nothing was changed: answer y, or pass --yes")


def _question(entry: LedgerEntry, *, fetch_again: bool) -> str:
    what = (
        f"Since {time_of(entry.since)} it is uncertain whether job {entry.job.request_id} was "
        f"charged ({entry.cause})."
    )
    if fetch_again:
        return f"{what}\nFetching it again may charge you a second time. Fetch it again?"
    return f"{what}\nIf it was, its video is lost. Give the job up?"


async def _forget(session: Session, job: Job) -> None:
    async with session.reader() as client:
        await client.forget(job)


async def _fetch_again(session: Session, job: Job, target: Target | None) -> Exit:
    report = Report(1, as_json=session.as_json)
    async with session.client([report.on_event]) as client:
        again = fetched(client, [job], accept_second_charge=True)
        await save_and_report(client, again, report, target)
    return report.exit


@click.command(short_help="Drop old results that are saved.")
@click.option(
    "--older-than",
    metavar="AGE",
    callback=age,
    required=True,
    help="How long ago the videos were saved at least, such as 12h or 30d.",
)
@session_options
def prune(*, session: Session, older_than: timedelta) -> None:
    """Drop old results whose videos are saved, so that the ledger stays small.

    That they are paid for stays recorded, and none of them is fetched again.
    """

    async def drop() -> int:
        async with session.reader() as client:
            return await client.prune(older_than)

    dropped = asyncio.run(drop())
    print_line(
        as_line({"pruned": dropped}) if session.as_json else f"results dropped: {dropped}"
    )


COMMANDS = (download, pending, stored, unresolved, resolve, usage, prune)

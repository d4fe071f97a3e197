"""The commands that submit prompts and wait for jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, aclosing
from typing import Any

import click

from modelmax_async._cli.exits import Exit, Failure
from modelmax_async._cli.following import find_jobs, save_and_report
from modelmax_async._cli.listing import print_job, print_status
from modelmax_async._cli.options import (
    Session,
    Target,
    model_option,
    parameter_option,
    session_options,
    target_options,
    timeout_option,
)
from modelmax_async._cli.records import printable
from modelmax_async._cli.report import Report
from modelmax_async._cli.requests import Requests, Source
from modelmax_async._cli.sources import Arguments, File, is_file_argument
from modelmax_async._errors import APIError


@click.command(short_help="Submit prompts, print their ids.")
@click.argument("prompts", metavar="PROMPT...", nargs=-1, required=True)
@click.option("--key", help="The key of the only prompt.  [default: a digest of the request]")
@model_option
@parameter_option
@session_options
def submit(
    *, session: Session, prompts: Sequence[str], key: str | None, parameters: Mapping[str, Any]
) -> None:
    """Submit prompts and print the request id of each.

    A submit is not billed. The same prompt again prints the id of the same job: pass another
    --key for another video of it.
    """
    if key is not None and len(prompts) > 1:
        raise click.UsageError("--key is for one prompt only")
    requests = Requests([Arguments(prompts)], session.model, parameters)
    requests.check()
    asyncio.run(_submit(session, requests, key))


async def _submit(session: Session, requests: Requests, key: str | None) -> None:
    async with session.client() as client:
        async for request in requests.stream():
            job = await client.submit(
                request.prompt,
                model=request.model,
                parameters=request.parameters,
                key=key or request.key,
            )
            print_job(job, as_json=session.as_json)


@click.command(short_help="Submit, wait, fetch and save a batch.")
@click.argument("sources", metavar="[FILE | PROMPT]...", nargs=-1)
@click.option("-p", "--prompt", "prompts", multiple=True, help="A prompt, also of one word.")
@target_options()
@click.option(
    "--max-jobs",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="How many jobs are open at once.",
)
@model_option
@parameter_option
@timeout_option
@session_options
def generate(
    *,
    session: Session,
    sources: Sequence[str],
    prompts: Sequence[str],
    parameters: Mapping[str, Any],
    target: Target | None,
    max_jobs: int,
    timeout: float,
) -> None:
    """Submit prompts, wait for the jobs, fetch each result once and save the videos.

    An argument is a FILE if it exists, has no space or ends in .txt, .csv, .jsonl or .ndjson;
    "-" is standard input. Any other is a PROMPT. The whole input is checked first.

    A text file has one prompt a line; empty lines and lines that start with # are skipped. A
    CSV file has a header with the column prompt, and any of model, key, aspect_ratio,
    resolution, duration_seconds, generate_audio, sample_count, negative_prompt and image (a
    path, relative to the file). A JSON Lines file has objects with the same keys and extra, or
    strings.

    Run the same command again, after a crash as well, and it goes on where it was: it neither
    submits nor pays twice. A row without a key has a default one: a digest of its model,
    prompt and parameters (of an image, its content), and how often the same row came before.
    """
    with ExitStack() as stack:
        requests = Requests(_open(stack, sources, prompts), session.model, parameters)
        total = requests.check()
        if not total:
            raise Failure("no prompts: pass a file, or prompts", Exit.USAGE)
        report = Report(total, as_json=session.as_json)
        work = _generate(
            session, requests, report, target=target, max_jobs=max_jobs, timeout=timeout
        )
        click.get_current_context().exit(asyncio.run(work))


def _open(stack: ExitStack, sources: Sequence[str], prompts: Sequence[str]) -> list[Source]:
    """Open the files; prompts that are neighbours are one source."""
    found: list[Source] = []
    texts: list[str] = []
    for text in sources:
        if is_file_argument(text):
            found.append(file := File(text))
            stack.callback(file.close)
        else:
            texts.append(text)
    return [*found, Arguments([*texts, *prompts])]


async def _generate(
    session: Session,
    requests: Requests,
    report: Report,
    *,
    target: Target | None,
    max_jobs: int,
    timeout: float,
) -> Exit:
    async with session.client([report.on_event]) as client, report.progress(client):
        outcomes = client.generate_many(
            requests.stream(),
            max_jobs=max_jobs,
            directory=None if target is None else target.directory,
            name=None if target is None else target.name,
            timeout=timeout,
        )
        async with aclosing(outcomes):
            async for outcome in outcomes:
                report.ended(outcome)
    return report.exit


@click.command(short_help="Wait for one job.")
@click.argument("request_id", metavar="ID")
@target_options()
@model_option
@timeout_option
@session_options
def wait(*, session: Session, request_id: str, target: Target | None, timeout: float) -> None:
    """Wait for a job, fetch its result once and print where its videos are.

    --model is needed for an id that is not in the ledger.
    """
    _finish(session, [request_id], target, timeout)


@click.command(short_help="Wait for several jobs.")
@click.argument("request_ids", metavar="[ID]...", nargs=-1)
@click.option("--pending", is_flag=True, help="Every job of the ledger that has not ended.")
@target_options()
@model_option
@timeout_option
@session_options
def gather(
    *,
    session: Session,
    request_ids: Sequence[str],
    pending: bool,
    target: Target | None,
    timeout: float,
) -> None:
    """Wait for jobs, and fetch and print each result as it is ready.

    --model is needed for an id that is not in the ledger. A job that fails affects no other.
    """
    if pending == bool(request_ids):
        raise click.UsageError("pass either ids or --pending")
    _finish(session, request_ids, target, timeout)


def _finish(
    session: Session, request_ids: Sequence[str], target: Target | None, timeout: float
) -> None:
    work = _gather(session, request_ids, target, timeout)
    click.get_current_context().exit(asyncio.run(work))


async def _gather(
    session: Session, request_ids: Sequence[str], target: Target | None, timeout: float
) -> Exit:
    report = Report(len(set(request_ids)), as_json=session.as_json)
    async with session.client([report.on_event]) as client:
        if request_ids:
            jobs = await find_jobs(client, request_ids, session.model)
        else:
            jobs = await client.pending()
            report.tally.total = len(jobs)
        outcomes = client.as_completed(jobs, timeout=timeout)
        await save_and_report(client, outcomes, report, target)
    return report.exit


@click.command(short_help="Print the status of jobs.")
@click.argument("request_ids", metavar="ID...", nargs=-1, required=True)
@model_option
@session_options
def status(*, session: Session, request_ids: Sequence[str]) -> None:
    """Ask the server for the status of jobs, which is never billed.

    --model is needed for an id that is not in the ledger.
    """
    click.get_current_context().exit(asyncio.run(_status(session, request_ids)))


async def _status(session: Session, request_ids: Sequence[str]) -> Exit:
    code = Exit.DONE
    async with session.client() as client:
        for job in await find_jobs(client, request_ids, session.model):
            try:
                print_status(await client.status(job), as_json=session.as_json)
            except APIError as exc:
                click.echo(printable(f"{job.request_id}: {exc}"), err=True)
                code = Exit.FAILED
    return code


COMMANDS = (submit, wait, gather, generate, status)

"""What a command prints of jobs and outcomes: JSON for programs, short lines for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from modelmax_async._cli.tally import state_of
from modelmax_async._errors import (
    JobFailedError,
    JobTimeoutError,
    ResultDroppedError,
    ResultUncertainError,
)
from modelmax_async._errors.sentences import sentence
from modelmax_async._models import Job, LedgerEntry, LedgerUsage, ModelUsage, Outcome

_LONGEST_URL = 200  # characters; a data: URL is a whole video
_LONGEST_PROMPT = 40  # characters


def as_line(record: Mapping[str, Any]) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(record, default=str)


def printable(text: str) -> str:
    """Return a text that cannot control a terminal: the server may have written it."""
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def name_of(outcome: Outcome) -> str:
    """Return what a line calls a job: its key, else its id."""
    if outcome.request is not None and outcome.request.key is not None:
        return outcome.request.key
    return "" if outcome.job is None else outcome.job.key or outcome.job.request_id


def title_of(outcome: Outcome) -> str:
    """Return the name of a job, and how its prompt begins, if that is known."""
    if outcome.request is None:
        return name_of(outcome)
    prompt = " ".join(outcome.request.prompt.split())
    shown = prompt if len(prompt) <= _LONGEST_PROMPT else f"{prompt[:_LONGEST_PROMPT]}…"
    return f"{name_of(outcome)} ({shown})".strip()


def problem_of(error: Exception) -> str:
    """Return what a line says of an error: what happened, and which command comes next."""
    match error:
        case JobFailedError(error=reason):
            return f"not billed: {reason or 'no reason given'}"
        case ResultUncertainError(job=job):
            return f"perhaps billed: decide with modelmax resolve {job.request_id}"
        case ResultDroppedError():
            return "it was paid for and delivered, and its result is no longer in the ledger"
        case JobTimeoutError(__cause__=Exception() as cause):
            problem = sentence(str(cause))
            return f"the server could not be asked: {problem} Run the same command again"
        case JobTimeoutError():
            return "it is still running on the server: run the same command again"
        case _:
            return str(error)


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as a dict that is ready for JSON."""
    job, request, result, error = outcome.job, outcome.request, outcome.result, outcome.error
    key = request.key if request is not None else job.key if job is not None else None
    return {
        "state": state_of(outcome),
        "key": key,
        "request_id": None if job is None else job.request_id,
        "model": job.model if job is not None else request and request.model,
        "prompt": request and request.prompt,
        "videos": [video.url for video in result.videos] if result is not None else [],
        "paths": [str(path) for path in outcome.paths],
        "usage": None if result is None else attrs.asdict(result.usage),
        "error": error and {"type": type(error).__name__, "message": str(error)},
    }


def places_of(outcome: Outcome) -> list[str]:
    """Return where each video of an outcome is: its file, else its URL."""
    if outcome.paths or outcome.result is None:
        return [str(path) for path in outcome.paths]
    return [_shortened(printable(video.url)) for video in outcome.result.videos]


def job_fields(job: Job) -> list[str]:
    """Return what a list says of a job: its id, its model, when it was submitted, its key."""
    at = "" if job.submitted_at is None else time_of(job.submitted_at)
    return [job.request_id, job.model, at, job.key or ""]


def entry_record(entry: LedgerEntry) -> dict[str, Any]:
    """Return an uncertain entry as a dict that is ready for JSON."""
    return {
        **entry.job.to_dict(),
        "since": entry.since,
        "phase": entry.phase,
        "cause": entry.cause,
    }


def entry_fields(entry: LedgerEntry) -> list[str]:
    """Return what a list says of an uncertain entry."""
    return [
        entry.job.request_id,
        entry.job.model,
        time_of(entry.since),
        entry.job.key or "",
        f"{entry.phase}: {entry.cause}",
    ]


def usage_rows(usage: LedgerUsage) -> list[list[str]]:
    """Return the lines of a table: a model, its results, videos and seconds, then the total."""
    named: list[tuple[str, ModelUsage | LedgerUsage]] = [*usage.by_model.items()]
    return [
        [
            " ".join(printable(name).split()),
            str(each.results),
            str(each.videos),
            f"{each.seconds:.15g}",
        ]
        for name, each in [*named, ("total", usage)]
    ]


def missing_from(usage: LedgerUsage) -> list[str]:
    """Return in words what a sum of usage does not contain."""
    counted = {
        "results that state no seconds": usage.unmetered,
        "paid results that could not be understood, not counted": usage.unreadable,
        "paid results that are no longer in the ledger, not counted": usage.dropped,
        "jobs of uncertain charge, not counted": usage.uncertain,
    }
    return [f"{text}: {number}" for text, number in counted.items() if number]


def time_of(seconds: float) -> str:
    """Return a time of the epoch as local time."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _shortened(url: str) -> str:
    return url if len(url) <= _LONGEST_URL else f"{url[:_LONGEST_URL]}…"

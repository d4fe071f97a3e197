"""Checks of what methods take: they name the mistake and say what to pass instead."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping

from modelmax_async._arguments import forgotten, named
from modelmax_async._errors import ModelMaxError
from modelmax_async._models import (
    Job,
    LedgerEntry,
    Outcome,
    Result,
    StatusReport,
    Succeeded,
    Video,
    VideoRequest,
)
from modelmax_async._validators import check_segment, is_integer

#: What to pass instead of a value that has a job, or is made of one.
_OF_A_JOB: tuple[tuple[type, str], ...] = (
    (Result, "its .request_id"),
    (StatusReport, "its .request_id"),
    (LedgerEntry, "its .job"),
    (Outcome, "its .job"),
    (ModelMaxError, "its .job"),
    (VideoRequest, "the Job that submit() returned for it"),
    (Mapping, "Job.from_dict(…) of it"),
    (Video, "the Job of its result"),
)
#: What to pass to `download` instead of something else.
_OF_A_RESULT: tuple[tuple[type, str], ...] = (
    (Succeeded, "its .result"),
    (Job, "await client.wait_for(job)"),
    (str, "await client.wait_for(request_id)"),
    (StatusReport, "await client.wait_for(job)"),
    (Video, "the whole Result, or use stream(video)"),
    (Mapping, "Result.from_dict(…) of it"),
    (Iterable, "each Result in a call of its own"),
)
#: What to pass to `stream` instead of something else.
_OF_A_VIDEO: tuple[tuple[type, str], ...] = (
    (Result, "one of its .videos"),
    (Mapping, "Video.from_dict(…) of it"),
    (Iterable, "one of Result.videos"),
)


def job_or_id(job: object) -> Job | str:
    """Return a job, or a request id that can be one path segment.

    Raises:
        ValueError: says how to get the job of what was given.
    """
    if isinstance(job, Job):
        return job
    if isinstance(job, str):
        return check_segment("request id", job)
    if isinstance(job, list | tuple | set | frozenset):
        advice = ": pass each job by itself"
    else:
        advice = forgotten(job) or _instead(job, _OF_A_JOB)
    raise ValueError(f"job must be a Job or a request id (str), got {named(job)}{advice}")


def check_jobs(jobs: object) -> list[Job | str]:
    """Return the jobs of a batch.

    Raises:
        ValueError: for anything but an iterable of jobs or request ids: one job, one id, or
            what must be awaited first.
    """
    problem = f"got {named(jobs)}"
    if isinstance(jobs, str):
        problem = "got one string: pass [request_id]"
    elif isinstance(jobs, Job):
        problem = "got one Job: pass [job], or use wait_for(job)"
    elif isinstance(jobs, Mapping) and any(isinstance(job, Job) for job in jobs.values()):
        problem += " of Jobs: pass its .values()"
    elif isinstance(jobs, AsyncIterable):
        problem += ": pass [job async for job in …]"
    elif isinstance(jobs, bytes) or not isinstance(jobs, Iterable):
        problem += forgotten(jobs)
    else:
        return _each(jobs)
    raise ValueError(f"jobs must be an iterable of Jobs or request ids, {problem}")


def _each(jobs: Iterable[object]) -> list[Job | str]:
    """Check each job. What must be awaited is closed, also after the first mistake."""
    given = list(jobs)
    try:
        return [job_or_id(job) for job in given]
    except ValueError:
        for job in given:
            forgotten(job)
        raise


def check_result(result: object) -> Result:
    """Return the argument of `download`, or raise a `ValueError` that says what to pass."""
    if isinstance(result, Result):
        return result
    advice = forgotten(result) or _instead(result, _OF_A_RESULT)
    raise ValueError(f"result must be a Result, got {named(result)}{advice}")


def check_video(video: object) -> Video:
    """Return the argument of `stream`, or raise a `ValueError` that says what to pass."""
    if isinstance(video, Video):
        return video
    advice = forgotten(video) or _instead(video, _OF_A_VIDEO)
    raise ValueError(f"video must be a Video, got {named(video)}{advice}")


def check_max_bytes(value: object) -> int:
    """Return the bound of `download`, or raise a `ValueError`."""
    if isinstance(value, int) and is_integer(value, 1, value):
        return value
    raise ValueError(f"max_bytes must be a positive integer, got {named(value)}")


def _instead(value: object, table: tuple[tuple[type, str], ...]) -> str:
    found = next((advice for kind, advice in table if isinstance(value, kind)), "")
    return found and f": pass {found}"

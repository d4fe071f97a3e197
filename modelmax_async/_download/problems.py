"""The errors of downloads: what happened, where the bytes are, what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from modelmax_async._download.part_file import RemovedError
from modelmax_async._download.sources import SourceError, shown
from modelmax_async._download.transfer import BrokenError, FinalError
from modelmax_async._errors import APIError, DownloadError, TransportError
from modelmax_async._models import Job

#: What makes a `DownloadError`; anything else is a mistake of this package's.
PROBLEMS = (APIError, TransportError, SourceError, FinalError, BrokenError, OSError)

_AGAIN = "call download() again later"
_ADVICE = {
    401: "check the API key, then call download() again",
    402: "top up, then call download() again",
}
_GONE = frozenset({400, 403, 404, 410})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MANY = frozenset({errno.EMFILE, errno.ENFILE})
_LOCKLESS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def explain(
    problem: Exception, what: str, *, url: str, part: Path | None = None, job: Job | None = None
) -> DownloadError:
    """Return the error to raise; what is no business of users' is not its cause.

    Args:
        problem: one of `PROBLEMS`.
        what: which video.
        url: where it is.
        part: the ``.part`` that was left behind, if any.
        job: the job that made it.
    """
    why, advice = _describe(problem)
    where = f" (from {shown(url)})" if url else ""
    kept = f" What came is kept in {part}; the next download() goes on there." if part else ""
    made = DownloadError(
        f"{what}{where} was not downloaded: {why}.{kept} The paid result is safe: {advice}.",
        url=shown(url) if url else "",
        part=str(part) if part else None,
        job=job,
    )
    if isinstance(problem, APIError | TransportError | OSError):
        made.__cause__ = problem.with_traceback(None)
    return made


def _describe(problem: Exception) -> tuple[str, str]:
    """Return what happened, and what to do."""
    if isinstance(problem, APIError):
        answer = f"HTTP {problem.status_code}: {problem.message}"
        if problem.status_code in _GONE:
            return (
                f"the server no longer has it, or never had: it may have expired ({answer})",
                "ask ModelMax about the content of this request id",
            )
        return answer, _ADVICE.get(problem.status_code, _AGAIN)
    if isinstance(problem, TransportError | BrokenError):
        return f"the transfer broke off ({problem})", _AGAIN
    if isinstance(problem, OSError):
        return _describe_disk(problem)
    return str(problem), "its url is in Result.videos, as the server sent it"


def _describe_disk(problem: OSError) -> tuple[str, str]:
    text = f"{problem.strerror or problem}"
    name = f": {problem.filename}" if problem.filename else ""
    if problem.errno in _FULL:
        return f"the disk is full ({text})", "free some space, then call download() again"
    if problem.errno in _MANY:
        return (
            f"too many files are open ({text})",
            "raise the limit (ulimit -n) or lower max_in_flight, then call download() again",
        )
    if problem.errno in _LOCKLESS:
        return (
            f"files there cannot be locked ({text})",
            "download() into a directory whose file system has locks, as a local disk's does",
        )
    if isinstance(problem, RemovedError):
        return text, "call download() again"
    return (
        f"the directory cannot be written to ({text}{name})",
        "download() into a directory that can be written to",
    )

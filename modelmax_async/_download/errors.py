"""The `DownloadError` of a failed download: what happened, where the bytes are, what to do."""

from __future__ import annotations

import errno
from http import HTTPStatus
from pathlib import Path

from modelmax_async._download.part_file import RemovedError
from modelmax_async._download.shared_files import UntrustedFileError
from modelmax_async._download.sources import SourceError, shown
from modelmax_async._download.transfer import PermanentError, TooLargeError, TransientError
from modelmax_async._errors import APIError, DownloadError, TransportError
from modelmax_async._errors.sentences import clause, sentence
from modelmax_async._models import Job

#: What becomes a `DownloadError`; any other exception is a bug of this package.
EXPECTED = (APIError, TransportError, SourceError, PermanentError, TransientError, OSError)

_AGAIN = "call download() again later"
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "check the API key, then call download() again",
    HTTPStatus.PAYMENT_REQUIRED: "top up the account, then call download() again",
}
_GONE = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
)
#: What happened, and what to do next, for the codes of an `OSError`.
_BY_CODE = (
    (
        {errno.ENOSPC, errno.EDQUOT, errno.EFBIG},
        "the disk is full",
        "free some space, then call download() again",
    ),
    (
        {errno.EMFILE, errno.ENFILE},
        "too many files are open",
        "raise the limit (ulimit -n) or lower max_in_flight, then call download() again",
    ),
    (
        {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS},
        "files in this directory cannot be locked",
        "call download() with a directory on a local disk, or on another that has locks",
    ),
)


def download_error(
    error: Exception, what: str, *, url: str, part: Path | None = None, job: Job | None = None
) -> DownloadError:
    """Return the error to raise for one of `EXPECTED`; ``part`` was left behind, if given.

    Exceptions that are private to this package are not its cause.
    """
    reason, advice = _describe(error)
    address = shown(url)
    where = f" (from {address})" if url else ""
    kept = "The bytes received so far are kept in"
    kept = f" {kept} {part}; the next download() resumes from there." if part else ""
    made = DownloadError(
        f"{what}{where} was not downloaded: {sentence(reason)}{kept} The paid result is safe: "
        f"{advice}.",
        url=address,
        part=str(part) if part else None,
        job=job,
    )
    if isinstance(error, APIError | TransportError | OSError):
        made.__cause__ = error.with_traceback(None)
    return made


def _describe(error: Exception) -> tuple[str, str]:
    """Return what happened, and what to do next."""
    if isinstance(error, APIError):
        answer = f"HTTP {error.status_code}: {error.message}"
        if error.status_code in _GONE:
            gone = "the server does not have the video, which may have expired"
            return (
                f"{gone} ({clause(answer)})",
                "ask ModelMax about the content of this request id",
            )
        return answer, _ADVICE.get(error.status_code, _AGAIN)
    if isinstance(error, TransportError):
        return f"the transfer was interrupted ({clause(str(error))})", _AGAIN
    if isinstance(error, TransientError):
        return str(error), _AGAIN
    if isinstance(error, OSError):
        return _describe_os_error(error)
    if isinstance(error, TooLargeError):
        advice = "call download() with a larger max_bytes"
    else:
        advice = "the URL that the server sent is in Result.videos"
    return str(error), advice


def _describe_os_error(error: OSError) -> tuple[str, str]:
    text = f"{error.strerror or error}"
    name = f": {error.filename}" if error.filename else ""
    for codes, what, advice in _BY_CODE:
        if error.errno in codes:
            return f"{what} ({text})", advice
    if isinstance(error, UntrustedFileError):
        elsewhere = "call download() with another directory"
        if f"{error.filename}".endswith(".part"):
            return text, f"remove that file, or {elsewhere}"
        return text, f"call download() with overwrite=True to replace that file, or {elsewhere}"
    if isinstance(error, RemovedError):
        return text, "call download() again"
    return (
        f"the directory cannot be written to ({text}{name})",
        "call download() with a directory that is writable",
    )

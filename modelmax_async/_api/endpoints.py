"""Every URL and JSON key of the API: bytes in, a value or an error out.

Nothing here does I/O, so each paragraph of the API can be tested without a loop.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import attrs

from modelmax_async._api.messages import (
    Call,
    Reply,
    as_text,
    as_utf8,
    decoded,
    read_json,
    shown,
)
from modelmax_async._api.schemas import (
    ResultBody,
    StatusBody,
    SubmitBody,
    read_usage,
    structure,
)
from modelmax_async._errors import InvalidResponseError
from modelmax_async._models import Job, Result, Status, StatusReport, Video, VideoParameters

#: Characters of a path that the HTTP library still takes behind any base URL.
MAX_PATH = 60_000


def make_job(model: str, request_id: str) -> Job:
    """Return the job of a bare id, with the documented paths (API §2, §3)."""
    job = Job(model, request_id)
    path = f"/v1/queue/{quote(model, safe='')}/requests/{quote(request_id, safe='')}"
    return attrs.evolve(job, status_url=f"{path}/status", response_url=path)


def check_job(job: Job) -> Job:
    """Return the job when the paths that would be called name this very job (API §2, §3).

    The wrong path could have another job billed, or this one by what was to be a free poll.

    Raises:
        ValueError: otherwise.
    """
    for name, path, tail in (
        ("status_url", _status_path(job), "/status"),
        ("response_url", _result_path(job), ""),
    ):
        if not _names(path, job.request_id, tail):
            raise ValueError(
                f"{name} of job {as_text(job.request_id, 100)} must be the path of that job, "
                f"ending in /requests/<request id>{tail}, got {as_text(path, 100)!r}. "
                "Nothing was sent: leave the paths out, and they are built from the request id"
            )
    return job


def build_submit(model: str, prompt: str, parameters: VideoParameters | None) -> Call:
    """Build the submit (API §1)."""
    content: dict[str, Any] = {"prompt": prompt}
    if not isinstance(parameters, VideoParameters | None):
        raise ValueError(  # noqa: TRY004 - the documented error for bad input
            "parameters is a VideoParameters; undocumented keys go in VideoParameters(extra=…)"
        )
    if parameters is not None and (chosen := parameters.to_dict()):
        content["parameters"] = chosen
    try:
        body = json.dumps(content, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"the parameters cannot be sent as JSON: {exc}") from exc
    return Call("POST", f"/v1/queue/{quote(model, safe='')}", body)


def build_status(job: Job) -> Call:
    """Build the free status call (API §2), at the server's own path where it is one."""
    return Call("GET", _status_path(job), job=job)


def build_result(job: Job) -> Call:
    """Build the **billed** result call (API §3). Only the settler sends it."""
    return Call("GET", _result_path(job), job=job)


def _status_path(job: Job) -> str:
    usable = _is_path(job.status_url) and _is_free(job.status_url, job)
    return job.status_url if usable else make_job(job.model, job.request_id).status_url


def _result_path(job: Job) -> str:
    usable = _is_path(job.response_url)
    return job.response_url if usable else make_job(job.model, job.request_id).response_url


def _is_path(url: str) -> bool:
    """Whether it stays on the base URL's origin when put behind it."""
    clean = url.isascii() and url.isprintable() and not set(url) & set(" \\#")
    dots = any(part in {".", ".."} for part in url.split("?", maxsplit=1)[0].split("/"))
    return url.startswith("/") and not url.startswith("//") and clean and not dots


def _is_free(path: str, job: Job) -> bool:
    """Whether it can only be a status: it must never be the billed path of any job."""
    tail = urlsplit(path).path
    billed = path == job.response_url or tail.endswith("/requests/status")
    return tail.endswith("/status") and not billed


def _names(url: str, request_id: str, tail: str) -> bool:
    """Whether a path names this job and nothing else, as far as its shape is documented.

    Nothing in it may change what it names on the way: a gateway that decodes it, drops empty
    segments or resolves dots must come to the same job.
    """
    path = url.partition("?")[0]
    before, documented, rest = path.partition("/requests/")
    plain = all(part not in {"", ".", ".."} for part in _decoded(before).split("/")[1:])
    if not plain or len(url) > MAX_PATH:
        return False
    if not documented:
        return "/requests/" not in _decoded(path)
    return unquote(rest) == f"{request_id}{tail}"


def _decoded(path: str) -> str:
    """Return a path as the most eager gateway reads it."""
    for _ in range(4):  # what is packed deeper than that has too many layers to be decoded
        path = unquote(path)
    return path


def same_id(one: str, other: str) -> bool:
    """Whether two spellings name one job: percent-encoding and base64 padding do not count."""
    return _bare(one) == _bare(other)


def _bare(request_id: str) -> str:
    return unquote(request_id).rstrip("=")


def parse_submit(reply: Reply, model: str, *, now: float) -> Job:
    """Return the job of a 202 (API §1); paths that do not name it are not kept.

    Raises:
        APIError: for an error answer.
        InvalidResponseError: for a body that holds no usable request id.
    """
    data = read_json(reply, now=now, job=None)
    try:
        body = structure(data, SubmitBody)
        job = make_job(model, body.request_id)
    except ValueError as exc:
        raise InvalidResponseError(f"not a submit answer: {exc}", body=shown(reply)) from exc
    for name, url, tail in (
        ("status_url", body.status_url, "/status"),
        ("response_url", body.response_url, ""),
    ):
        if isinstance(url, str) and _is_path(url) and _names(url, job.request_id, tail):
            job = attrs.evolve(job, **{name: url})
    return job


def parse_status(reply: Reply, job: Job, *, now: float) -> StatusReport:
    """Return the status of a job (API §2); an unknown word stays as it is.

    Raises:
        APIError: for an error answer.
        InvalidResponseError: for a body without a status, or about another job.
    """
    data = read_json(reply, now=now, job=job)
    try:
        body = structure(data, StatusBody)
    except ValueError as exc:
        raise InvalidResponseError(
            f"not a status of job {job.request_id}: {exc}", body=shown(reply), job=job
        ) from exc
    _check_named(data, job, shown(reply))
    error = as_text(body.error) if body.error is not None else None
    return StatusReport(job.request_id, Status.of(as_text(body.status)), error, data)


def _check_named(data: dict[str, Any], job: Job, body: bytes) -> None:
    """Refuse an answer that names another job: the connection is one answer behind, perhaps."""
    named = data.get("request_id")
    if named is None or (isinstance(named, str) and same_id(named, job.request_id)):
        return
    raise InvalidResponseError(
        f"the answer for job {job.request_id} is about another job", body=body, job=job
    )


def result_status(reply: Reply, job: Job | None = None) -> tuple[str | None, str]:
    """Return the status word and the error text of a result body (API §3).

    It never raises: a body that says nothing readable, or names another job, has the status
    ``None``.
    """
    try:
        data = json.loads(decoded(reply))
        body = structure(data, ResultBody)
        if job is not None:
            _check_named(data, job, reply.body)
    except (ValueError, RecursionError, InvalidResponseError):
        return None, ""
    if body.status != Status.COMPLETED and (body.data or body.usage):
        return None, ""  # it has what is paid for, whatever its word says
    return body.status, as_text(body.error)


def parse_result(body: bytes, job: Job) -> Result:
    """Return the paid result (API §3).

    Raises:
        InvalidResponseError: for a body that holds no videos, or is about another job; the
            error has its bytes.
    """
    problem = "it lists no videos"
    try:
        data = json.loads(body)
        answer = structure(data, ResultBody)
        _check_named(data, job, body)
        urls = [item["url"] for item in answer.data]
        if urls and answer.status == Status.COMPLETED and all(isinstance(u, str) for u in urls):
            videos = tuple(Video(as_utf8(url), index) for index, url in enumerate(urls))
            model = as_utf8(answer.model) if isinstance(answer.model, str) else job.model
            return Result(job.request_id, model, videos, read_usage(answer.usage), data)
    except InvalidResponseError as exc:
        problem = str(exc)
    except (ValueError, RecursionError, KeyError, TypeError) as exc:
        problem = f"{type(exc).__name__}: {exc}"
    raise InvalidResponseError(
        f"the paid answer for job {job.request_id} could not be understood ({problem[:300]}). "
        "Its bytes are in .body; it is not fetched again unless you call "
        "result(job, accept_second_charge=True)",
        body=body,
        job=job,
    )


def is_readable(body: bytes, job: Job) -> bool:
    """Whether a body is the readable result of the job."""
    try:
        parse_result(body, job)
    except InvalidResponseError:
        return False
    return True

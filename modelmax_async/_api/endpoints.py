"""The four endpoints of the API: how each request is built and each response is parsed.

Nothing here does I/O, so each paragraph of the API can be tested without an event loop.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from modelmax_async._api import paths, schemas
from modelmax_async._api.bounded_json import parse
from modelmax_async._api.messages import (
    Call,
    Reply,
    as_text,
    as_utf8,
    decoded,
    read_json,
    shown,
)
from modelmax_async._errors import InvalidResponseError
from modelmax_async._errors.sentences import clause
from modelmax_async._models import Job, Result, Status, StatusReport, Video, VideoParameters

#: The most videos of a result. Like the bounds of `bounded_json`, it is a constant.
MAX_VIDEOS = 1000


def build_submit(model: str, prompt: str, parameters: VideoParameters | None) -> Call:
    """Build the submit (API §1); unusable parameters are a `ValueError`."""
    content: dict[str, Any] = {"prompt": prompt}
    if parameters is not None and isinstance(parameters.image, Path):
        raise ValueError("image must be read before the request is built, got its path")
    if parameters is not None and (chosen := parameters.to_dict()):
        content["parameters"] = chosen
    try:
        body = json.dumps(content, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"the parameters cannot be sent as JSON: {exc}") from exc
    return Call("POST", paths.submit_path(model), body)


def fingerprint(call: Call) -> str:
    """Return a digest of what a submit asks for: the model, the prompt and the parameters."""
    content = json.loads(call.body or b"null")
    canonical = json.dumps([call.path, content], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def build_status(job: Job) -> Call:
    """Build the free status call (API §2)."""
    return Call("GET", paths.status_path(job), job=job)


def build_result(job: Job) -> Call:
    """Build the **billed** result call (API §3). Only the settler sends it."""
    return Call("GET", paths.result_path(job), job=job)


def parse_submit(reply: Reply, model: str, *, now: float) -> Job:
    """Return the job of a 202 (API §1), submitted ``now``.

    Raises:
        APIError: for an error response.
        InvalidResponseError: for a body without a usable request id.
    """
    data = read_json(reply, now=now, job=None)
    try:
        return paths.submitted_job(schemas.structure(data, schemas.SubmitBody), model, now)
    except ValueError as exc:
        raise InvalidResponseError(
            f"the submit response{reply.origin} could not be understood: {exc}",
            body=shown(reply),
        ) from exc


def parse_status(reply: Reply, job: Job, *, now: float) -> StatusReport:
    """Return the status of a job (API §2); an unknown word stays as it is.

    Raises:
        APIError: for an error response.
        InvalidResponseError: for a body without a status, or about another job.
    """
    data = read_json(reply, now=now, job=job)
    try:
        body = schemas.structure(data, schemas.StatusBody)
    except ValueError as exc:
        raise InvalidResponseError(
            f"the status response{reply.origin} for job {job.request_id} could not be "
            f"understood: {exc}",
            body=shown(reply),
            job=job,
        ) from exc
    _check_named(data, job, shown(reply))
    error = as_text(body.error) if body.error is not None else None
    return StatusReport(job.request_id, as_text(body.status), error, data)


def _check_named(data: dict[str, Any], job: Job, body: bytes) -> None:
    """Refuse a response that names another job: the connection may be one response behind."""
    named = data.get("request_id")
    if named is None or (isinstance(named, str) and paths.same_id(named, job.request_id)):
        return
    raise InvalidResponseError(
        f"the response for job {job.request_id} is about another job", body=body, job=job
    )


def result_status(reply: Reply, job: Job | None = None) -> tuple[str | None, str]:
    """Return the status word and the error text of a result response (API §3).

    It never raises: the status of a body that is unreadable or names another job is ``None``.
    """
    try:
        data = parse(decoded(reply))
        body = schemas.structure(data, schemas.ResultBody)
        if job is not None:
            _check_named(data, job, reply.body)
    except (ValueError, InvalidResponseError):
        return None, ""
    if body.status != Status.COMPLETED and (body.data or body.usage):
        return None, ""  # it holds what is paid for, whatever its status says
    return body.status, as_text(body.error)


def parse_result(body: bytes, job: Job) -> Result:
    """Return the paid result (API §3).

    Raises:
        InvalidResponseError: for a body without videos, or about another job; the error holds
            the whole body.
    """
    problem = "it lists no videos"
    try:
        data = parse(body)
        found = schemas.structure(data, schemas.ResultBody)
        _check_named(data, job, body)
        urls = [item["url"] for item in found.data]
        if len(urls) > MAX_VIDEOS:
            raise ValueError(f"it lists {len(urls)} videos, more than {MAX_VIDEOS}")
        if urls and found.status == Status.COMPLETED and all(isinstance(u, str) for u in urls):
            videos = tuple(Video(as_utf8(url), index) for index, url in enumerate(urls))
            model = as_utf8(found.model) if isinstance(found.model, str) else job.model
            return Result(job.request_id, model, videos, schemas.read_usage(found.usage), data)
    except InvalidResponseError as exc:
        problem = str(exc)
    except (ValueError, KeyError, TypeError) as exc:
        ours = type(exc) is ValueError  # its text says which bound it is beyond, for example
        problem = str(exc) if ours else f"{type(exc).__name__}: {exc}"
    raise InvalidResponseError(
        f"the paid response for job {job.request_id} could not be understood "
        f"({clause(problem[:300])}). Its bytes are in .body; it is not fetched again unless "
        "you call result(job, accept_second_charge=True)",
        body=body,
        job=job,
    )


def is_readable(body: bytes, job: Job) -> bool:
    """Whether a body is a readable result of the job."""
    try:
        parse_result(body, job)
    except InvalidResponseError:
        return False
    return True

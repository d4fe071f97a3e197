"""Every URL and JSON key of the API: bytes in, a value or an error out.

Nothing here does I/O, so each paragraph of the API can be tested without a loop.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlsplit

import attrs

from modelmax_async._bodies import ResultBody, StatusBody, SubmitBody, read_usage, structure
from modelmax_async._errors import InvalidResponseError
from modelmax_async._messages import Call, Reply, as_text, as_utf8, decoded, read_json, shown
from modelmax_async._models import Job, Result, Status, StatusReport, Video, VideoParameters


def make_job(model: str, request_id: str) -> Job:
    """Return the job of a bare id, with the documented paths (API §2, §3)."""
    job = Job(model, request_id)
    path = f"/v1/queue/{quote(model, safe='')}/requests/{quote(request_id, safe='')}"
    return attrs.evolve(job, status_url=f"{path}/status", response_url=path)


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
    path = job.status_url
    if not _is_path(path) or not _is_free(path, job):
        path = make_job(job.model, job.request_id).status_url
    return Call("GET", path, job=job)


def build_result(job: Job) -> Call:
    """Build the **billed** result call (API §3). Only the settler sends it."""
    path = job.response_url
    if not _is_path(path):
        path = make_job(job.model, job.request_id).response_url
    return Call("GET", path, job=job)


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


def parse_submit(reply: Reply, model: str, *, now: float) -> Job:
    """Return the job of a 202 (API §1); paths of another origin are not kept.

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
    if isinstance(body.status_url, str) and _is_path(body.status_url):
        job = attrs.evolve(job, status_url=body.status_url)
    if isinstance(body.response_url, str) and _is_path(body.response_url):
        job = attrs.evolve(job, response_url=body.response_url)
    return job


def parse_status(reply: Reply, job: Job, *, now: float) -> StatusReport:
    """Return the status of a job (API §2); an unknown word stays as it is.

    Raises:
        APIError: for an error answer.
        InvalidResponseError: for a body without a status.
    """
    data = read_json(reply, now=now, job=job)
    try:
        body = structure(data, StatusBody)
    except ValueError as exc:
        raise InvalidResponseError(
            f"not a status of job {job.request_id}: {exc}", body=shown(reply), job=job
        ) from exc
    error = as_text(body.error) if body.error is not None else None
    return StatusReport(job.request_id, Status.of(as_text(body.status)), error, data)


def result_status(reply: Reply) -> tuple[str | None, str]:
    """Return the status word and the error text of a result body (API §3).

    It never raises: a body that says nothing readable has the status ``None``.
    """
    try:
        data = json.loads(decoded(reply))
        body = structure(data, ResultBody)
    except (ValueError, RecursionError):
        return None, ""
    return body.status, as_text(body.error)


def parse_result(body: bytes, job: Job) -> Result:
    """Return the paid result (API §3).

    Raises:
        InvalidResponseError: for a body that holds no videos; the error has its bytes.
    """
    problem = "it lists no videos"
    try:
        data = json.loads(body)
        answer = structure(data, ResultBody)
        urls = [item["url"] for item in answer.data]
        if urls and answer.status == Status.COMPLETED and all(isinstance(u, str) for u in urls):
            videos = tuple(Video(as_utf8(url), index) for index, url in enumerate(urls))
            model = as_utf8(answer.model) if isinstance(answer.model, str) else job.model
            return Result(job.request_id, model, videos, read_usage(answer.usage), data)
    except (ValueError, RecursionError, KeyError, TypeError) as exc:
        problem = f"{type(exc).__name__}: {exc}"
    raise InvalidResponseError(
        f"the paid answer for job {job.request_id} could not be understood ({problem[:300]}). "
        "Its bytes are in .body and in the ledger; it is not fetched again unless you call "
        "result(job, accept_second_charge=True)",
        body=body,
        job=job,
    )

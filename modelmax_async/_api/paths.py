"""The paths of the API: how they are built, and which of a job's own paths are called."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, quote_from_bytes, unquote, unquote_to_bytes, urlsplit

import attrs

from modelmax_async._api.messages import as_text
from modelmax_async._api.schemas import SubmitBody
from modelmax_async._models import Job

#: The longest path in characters: the HTTP library accepts it after any base URL.
MAX_PATH = 60_000
#: The documented path of a result: a template for traces (API §3).
RESULT_TEMPLATE = "/v1/queue/{model}/requests/{request_id}"
#: Characters by which a server's own path may exceed twice the documented one.
_SPARE = 1024
#: The most characters of base64 padding, percent-encoded or not, with room to spare.
_PADDING = 16
#: What each path of a job ends in.
_TAILS = {"status_url": "/status", "response_url": ""}
#: What some gateways act on once it is decoded, besides control characters.
_ACTED_ON = b" \\%;?#\x7f"


def submit_path(model: str) -> str:
    """Return the path of a submit (API §1)."""
    return f"/v1/queue/{quote(model, safe='')}"


def make_job(model: str, request_id: str) -> Job:
    """Return the job of a request id, with the documented paths (API §2, §3)."""
    job = Job(model, request_id)
    path = f"{submit_path(model)}/requests/{quote(request_id, safe='')}"
    return attrs.evolve(job, status_url=f"{path}/status", response_url=path)


def submitted_job(body: SubmitBody, model: str, now: float) -> Job:
    """Return the job of a 202 (API §1): it keeps the server's paths if they name the job."""
    job = make_job(model, body.request_id)
    given: dict[str, Any] = {"submitted_at": now}
    for name, tail in _TAILS.items():
        url = getattr(body, name)
        if isinstance(url, str) and _is_path(url) and _names(url, job, tail):
            given[name] = url
    return attrs.evolve(job, **given)


def check_job(job: Job) -> Job:
    """Return the job if the paths that would be called name this very job (API §2, §3).

    A wrong path could bill another job, or bill this job with a status call.

    Raises:
        ValueError: otherwise.
    """
    for (name, tail), path in zip(
        _TAILS.items(), (status_path(job), result_path(job)), strict=True
    ):
        if not _names(path, job, tail):
            raise ValueError(
                f"{name} of job {as_text(job.request_id, 100)} must be the path of that job, "
                f"ending in /requests/<request id>{tail}, got {as_text(path, 100)!r}. "
                "Nothing was sent: leave the paths out, and they are built from the request id"
            )
    return job


def status_path(job: Job) -> str:
    """Return the path of the status call: the job's own if it is a free path (API §2)."""
    usable = _is_path(job.status_url) and _is_free(job.status_url, job)
    return job.status_url if usable else make_job(job.model, job.request_id).status_url


def result_path(job: Job) -> str:
    """Return the path of the billed call: the job's own if it is a path (API §3)."""
    usable = _is_path(job.response_url)
    return job.response_url if usable else make_job(job.model, job.request_id).response_url


def _is_path(url: str) -> bool:
    """Whether it stays on the origin of the base URL when it is appended to that."""
    clean = url.isascii() and url.isprintable() and not set(url) & set(" \\#")
    dots = any(part in {".", ".."} for part in url.split("?", maxsplit=1)[0].split("/"))
    return url.startswith("/") and not url.startswith("//") and clean and not dots


def _is_free(path: str, job: Job) -> bool:
    """Whether it can only be a status path, and never the billed path of any job."""
    tail = urlsplit(path).path
    billed = path == job.response_url or tail.endswith("/requests/status")
    return tail.endswith("/status") and not billed


def _names(url: str, job: Job, tail: str) -> bool:
    """Whether a path names this job and nothing else, as far as its shape is documented.

    A gateway that decodes it once more, drops empty segments or parameters, or resolves dots
    must still read the same job from it.
    """
    usual = len(f"{submit_path(job.model)}/requests/{quote(job.request_id, safe='')}{tail}")
    if len(url) > min(MAX_PATH, 2 * usual + _SPARE):
        return False
    before, documented, rest = url.partition("?")[0].partition("/requests/")
    segments = before.split("/")[1:]
    if not all(_is_plain(each, job) for each in segments):
        return False
    if not documented:
        return "requests" not in before.lower().split("/")
    return rest.endswith(tail) and _spells(rest.removesuffix(tail), job.request_id)


def _is_plain(segment: str, job: Job) -> bool:
    """Whether a segment is read alike everywhere, or names the job or its model."""
    if segment in {"", ".", ".."}:
        return False
    alike = reads_alike(segment) and "%2f" not in segment.lower()
    return alike or _spells(segment, job.model) or _spells(segment, job.request_id)


def _spells(text: str, name: str) -> bool:
    """Whether a part of a path is a name, with nothing encoded that needs no encoding."""
    if text == quote(name, safe=""):
        return True
    return unquote_to_bytes(text) == name.encode() and ";" not in text and _is_usual(text)


def reads_alike(path: str) -> bool:
    """Whether a gateway that decodes a path once more reads the same segments from it.

    It is not so with parameters (``;``), with what is encoded though it need not be, and with
    encoded characters that gateways act on: those that end a path, and a second encoding.
    """
    acted_on = any(byte in _ACTED_ON or byte < ord(" ") for byte in unquote_to_bytes(path))
    return not acted_on and _is_usual(path)


def _is_usual(path: str) -> bool:
    """Whether each escape stands for a byte that is usually encoded."""
    escapes = re.findall("%.{0,2}", path)
    return all(quote_from_bytes(unquote_to_bytes(e), safe="") == e.upper() for e in escapes)


def same_id(one: str, other: str) -> bool:
    """Whether two spellings name one job: percent-encoding and base64 padding do not count."""
    if one == other:
        return True
    shorter, longer = sorted((len(one), len(other)))
    if longer > 3 * shorter + _PADDING:  # decoding a long one would take seconds
        return False
    return _bare(one) == _bare(other)


def _bare(request_id: str) -> str:
    return unquote(request_id).rstrip("=")

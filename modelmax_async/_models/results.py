"""Paid results, and how the jobs of a batch ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from modelmax_async._models.jobs import Job
from modelmax_async._models.requests import VideoRequest
from modelmax_async._models.value import Value


@attrs.frozen
class Video(Value):
    """One video of a result (API §3): the server's ``url``, and its ``index`` from 0."""

    url: str
    index: int


@attrs.frozen
class Usage(Value):
    """What was billed (API §3); a field that the server left out is ``None``."""

    video_seconds: float | None = None
    video_resolution: str | None = None
    video_has_audio: bool | None = None


@attrs.frozen
class Result(Value):
    """A paid result (API §3) of the job ``request_id``.

    ``videos`` are those that ``model`` made, in the server's order; ``usage`` is what was
    billed, ``raw`` the whole JSON body, unknown fields included.
    """

    request_id: str
    model: str
    videos: tuple[Video, ...]
    usage: Usage = Usage()
    raw: Mapping[str, Any] = attrs.field(factory=dict, hash=False, repr=False)


@attrs.frozen
class Outcome(Value):
    """How a job of a batch ended: with ``result`` or ``error``, the other is ``None``.

    ``job`` is the job; ``None`` if `AsyncQueueClient.generate_many` could not submit it. Only
    that method sets the other fields: ``request`` is what was submitted, and ``paths`` are the
    files that the videos were downloaded to.
    """

    job: Job | None
    result: Result | None = None
    error: Exception | None = None
    request: VideoRequest | None = None
    paths: tuple[Path, ...] = ()

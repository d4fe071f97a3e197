"""Paid results, and how the jobs of a batch ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

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
    billed, ``raw`` the whole JSON body, unknown fields included, without the API key if the
    server quoted that.
    """

    request_id: str
    model: str
    videos: tuple[Video, ...]
    usage: Usage = Usage()
    raw: Mapping[str, Any] = attrs.field(factory=dict, hash=False, repr=False)


@attrs.frozen
class Outcome(Value):
    """How a job of a batch ended: the base of `Succeeded` and `Failed`.

    ``if outcome.error is None`` tells a type checker which of the two it is. Only
    `AsyncQueueClient.generate_many` sets ``request``, which is what was submitted, and
    ``paths``, the files that the videos were downloaded to.
    """

    job: Job | None
    result: Result | None
    error: Exception | None
    request: VideoRequest | None
    paths: tuple[Path, ...]

    def __attrs_pre_init__(self) -> None:
        if type(self) is Outcome:
            raise TypeError(
                "Outcome is a base class: make a Succeeded(job, result) or a Failed(job, error)"
            )

    @classmethod
    def _of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return the outcome; that of a pickle from before the two classes finds its own."""
        if cls is Outcome:
            outcome: Any = kind_of(fields)._of_fields(fields)  # noqa: SLF001 - of a subclass
            return outcome  # type: ignore[no-any-return]  # as above
        return super()._of_fields(fields)


@attrs.frozen
class Succeeded(Outcome):
    """A job of a batch that has its ``result``; ``error`` is ``None``."""

    job: Job
    result: Result
    error: None = attrs.field(default=None, init=False, repr=False)
    request: VideoRequest | None = None
    paths: tuple[Path, ...] = ()


@attrs.frozen
class Failed(Outcome):
    """A job of a batch that ended with an ``error``; ``result`` is ``None``.

    ``job`` is ``None`` if `AsyncQueueClient.generate_many` could not submit it. If the error is
    a `DownloadError`, the result is paid for, and in the ledger.
    """

    job: Job | None
    result: None = attrs.field(default=None, init=False, repr=False)
    error: Exception
    request: VideoRequest | None = None
    paths: tuple[Path, ...] = attrs.field(default=(), init=False, repr=False)


def kind_of(fields: Mapping[str, Any]) -> type[Succeeded | Failed]:
    """Return the class of an outcome, from its fields or its dict."""
    return Succeeded if fields.get("error") is None else Failed

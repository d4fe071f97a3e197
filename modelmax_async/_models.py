"""The frozen values of the public API: jobs, status reports, results, ledger entries.

None of them holds a client, a connection or a key: store them, pickle them, send them to
another machine.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Self

import attrs
from attrs.validators import optional

from modelmax_async import _validators as valid


class Status(StrEnum):
    """The documented statuses of a job (API §2). Any other word stays a plain ``str``."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @classmethod
    def of(cls, word: str) -> Self | str:
        """Return the member for a documented word, or any other word unchanged."""
        return cls._value2member_map_.get(word, word)  # type: ignore[return-value]  # the map's values are members


def as_status(word: str) -> Status | str:
    """Convert a field to a `Status` if it is a documented word; cattrs uses this as well."""
    return Status.of(word)


@attrs.frozen
class Value:
    """The base of the values: each is pickled as its public class and a dict of its fields.

    A stored pickle therefore loads in later versions that move the class or add fields.
    """

    @classmethod
    def _of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return the value; unknown fields are ignored, missing ones get their default."""
        names = {field.name for field in attrs.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in names})

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return self._of_fields, (fields,)


@attrs.frozen
class Job(Value):
    """A submitted job: a plain value that is valid on any machine (API §1).

    Args:
        model: the model that it was submitted to, such as ``"veo-3"``.
        request_id: the server's opaque id of it.
        status_url: the path of the free status call, empty for the documented path.
        response_url: the path of the **billed** result, empty for the documented path.
        submitted_at: when `submit` received the job, in seconds since the epoch; ``None`` if
            that is unknown. The times of polls and `AsyncQueueClient.expected` depend on it,
            the billed call does not.

    Raises:
        ValueError: for a request id or a model that cannot be one path segment, or a time that
            is not a number.
    """

    model: str = attrs.field(validator=valid.segment("model"))
    request_id: str = attrs.field(validator=valid.segment("request id"))
    status_url: str = attrs.field(default="", validator=valid.text)
    response_url: str = attrs.field(default="", validator=valid.text)
    submitted_at: float | None = attrs.field(default=None, validator=valid.timestamp)

    def to_dict(self) -> dict[str, Any]:
        """Return the job as a dict that is ready for JSON."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the job of a dict from `to_dict`; unknown keys are ignored.

        Args:
            data: the dict, with at least ``model`` and ``request_id``.

        Raises:
            ValueError: if a required key is missing or a value is unusable.
        """
        try:
            return cls._of_fields(data)
        except (TypeError, AttributeError) as exc:
            raise ValueError(f"not a job: {exc}") from exc


@attrs.frozen
class StatusReport(Value):
    """One response of the status endpoint (API §2) about the job ``request_id``.

    ``status`` is a `Status`, or the server's word if it is not documented: such a job is not
    terminal, and its result is never fetched. ``error`` is the server's text for a FAILED job,
    ``raw`` the whole JSON body, unknown fields included.
    """

    request_id: str
    status: Status | str = attrs.field(converter=as_status)
    error: str | None = None
    raw: Mapping[str, Any] = attrs.field(factory=dict, hash=False, repr=False)

    @property
    def terminal(self) -> bool:
        """Whether the job has ended: COMPLETED or FAILED."""
        return self.status in {Status.COMPLETED, Status.FAILED}


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
    """How a ``job`` of a batch ended: with ``result`` or ``error``, the other is ``None``."""

    job: Job
    result: Result | None = None
    error: Exception | None = None


LedgerState = Literal[
    "known", "claimed", "armed", "stored", "failed", "uncertain", "abandoned", "delivered"
]
Phase = Literal["sent", "answered"]
#: The states of jobs that have neither a stored result nor a failure.
UNFINISHED: frozenset[LedgerState] = frozenset({"known", "claimed", "armed", "uncertain"})


@attrs.frozen(kw_only=True)
class LedgerEntry(Value):
    """The record of one job in a ledger.

    Attributes:
        job: the job.
        state: the state of its billed call; see `modelmax_async.ledger`.
        since: when it entered this state, in seconds since the epoch.
        owner: the client that claimed it, while it is claimed or armed.
        attempt: the id of the latest attempt at the billed call.
        lease_until: when the latest lease ends by the ledger's clock, in seconds since the
            epoch. Every claim and renewal makes it later: if it stands still, the owner is
            gone, whatever the clocks say.
        lease: the length of that lease in seconds.
        resting: the state that the latest attempt began from.
        decided: the earlier attempt that the user decided to pay for again with the latest
            one, if any.
        phase: of an uncertain entry: ``"sent"``, or ``"answered"`` once bytes of the response
            had arrived.
        cause: of an uncertain entry: what happened, in words.
        error: of a failed entry: the server's text.
        body: of a stored entry: the paid response, byte for byte.
        acknowledged: whether the server has confirmed that it knows the job.
    """

    job: Job
    state: LedgerState
    since: float
    owner: str | None = None
    attempt: str | None = None
    lease_until: float = 0.0
    lease: float = 0.0
    resting: LedgerState | None = None
    decided: str | None = None
    phase: Phase | None = None
    cause: str | None = None
    error: str | None = None
    body: bytes | None = attrs.field(default=None, repr=False)
    acknowledged: bool = True


@attrs.frozen(kw_only=True)
class VideoParameters(Value):
    """The parameters of a submit (API §1); a parameter that is ``None`` is not sent.

    Args:
        aspect_ratio: ``"16:9"`` or ``"9:16"``.
        resolution: ``"720p"``, ``"1080p"`` or ``"4k"``.
        duration_seconds: the length of the video, from 1 to 8 seconds.
        generate_audio: whether the video has sound.
        sample_count: the number of videos, from 1 to 4.
        negative_prompt: a description of what to avoid.
        image: the first frame as base64, for image-to-video.
        extra: undocumented parameters, sent unchanged; they override those above.

    Raises:
        ValueError: for a value outside its documented range.
    """

    aspect_ratio: str | None = attrs.field(
        default=None, validator=optional(valid.one_of("16:9", "9:16"))
    )
    resolution: str | None = attrs.field(
        default=None, validator=optional(valid.one_of("720p", "1080p", "4k"))
    )
    duration_seconds: int | None = attrs.field(
        default=None, validator=optional(valid.between(1, 8))
    )
    generate_audio: bool | None = attrs.field(default=None, validator=optional(valid.flag))
    sample_count: int | None = attrs.field(
        default=None, validator=optional(valid.between(1, 4))
    )
    negative_prompt: str | None = attrs.field(default=None, validator=optional(valid.text))
    image: str | None = attrs.field(default=None, validator=optional(valid.text), repr=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict, validator=valid.mapping, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters that are set, and those of ``extra``, as they are sent."""
        known = attrs.asdict(self, filter=lambda field, _: field.name != "extra")
        return {k: v for k, v in known.items() if v is not None} | dict(self.extra)


for _public in (Status, *Value.__subclasses__()):
    _public.__module__ = "modelmax_async"

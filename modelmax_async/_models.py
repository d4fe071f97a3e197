"""The frozen values that users hold: jobs, reports, results, ledger entries.

None of them holds a client, a connection or a key: store them, pickle them, send
them to another machine.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Self

import attrs

from modelmax_async import _validators as valid


class Status(StrEnum):
    """The documented states of a job (API §2). Any other word stays a plain ``str``."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @classmethod
    def of(cls, word: str) -> Self | str:
        """Return the documented status, or the unknown word as it is."""
        return cls._value2member_map_.get(word, word)  # type: ignore[return-value]  # the map's values are members


def as_status(word: str) -> Status | str:
    """Convert the word of a field to a `Status`; cattrs uses it too."""
    return Status.of(word)


@attrs.frozen
class Value:
    """The base of the values: one is pickled as its public class and a dict of its fields.

    So a stored pickle loads in versions that keep the class in another file, or that have
    further fields.
    """

    @classmethod
    def _of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return the value of these fields: unknown ones are ignored, missing ones default."""
        names = {field.name for field in attrs.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in names})

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return self._of_fields, (fields,)


@attrs.frozen
class Job(Value):
    """A submitted job: a plain value, good on any machine (API §1).

    Args:
        model: the model it was submitted to, such as ``"veo-3"``.
        request_id: the server's opaque id.
        status_url: the path to poll; built from the id where the server sent none.
        response_url: the path of the **billed** result; only the settler calls it.

    Raises:
        ValueError: for an id or a model that cannot be one path segment.
    """

    model: str = attrs.field(validator=valid.segment("model"))
    request_id: str = attrs.field(validator=valid.segment("request id"))
    status_url: str = attrs.field(default="", validator=valid.text("status_url"))
    response_url: str = attrs.field(default="", validator=valid.text("response_url"))

    def to_dict(self) -> dict[str, str]:
        """Return the job as plain strings, ready for JSON."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the job that `to_dict` wrote; keys it does not know are ignored.

        Raises:
            ValueError: when ``model`` or ``request_id`` is missing or unusable.
        """
        try:
            return cls._of_fields(data)
        except (TypeError, AttributeError) as exc:
            raise ValueError(f"not a job: {exc}") from exc


@attrs.frozen
class StatusReport(Value):
    """One answer of the status endpoint (API §2).

    ``status`` is a `Status`, or the server's own word where it is unknown: such a
    job is never terminal and never fetched. ``error`` is the server's text when FAILED.
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
    """One video of a result: ``url`` as the server sent it, ``index`` from 0 (API §3)."""

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
    """A paid result (API §3). ``raw`` is the whole answer, unknown fields included."""

    request_id: str
    model: str
    videos: tuple[Video, ...]
    usage: Usage = Usage()
    raw: Mapping[str, Any] = attrs.field(factory=dict, hash=False, repr=False)


@attrs.frozen
class Outcome(Value):
    """How one job of a batch ended: ``result`` or ``error``, the other is ``None``."""

    job: Job
    result: Result | None = None
    error: Exception | None = None


LedgerState = Literal[
    "known", "claimed", "armed", "stored", "failed", "uncertain", "abandoned", "delivered"
]
Phase = Literal["sent", "answered"]
#: The states of jobs with neither a stored result nor a failure.
UNFINISHED: frozenset[LedgerState] = frozenset({"known", "claimed", "armed", "uncertain"})


@attrs.frozen(kw_only=True)
class LedgerEntry(Value):
    """What a ledger knows of one job.

    Attributes:
        job: the job.
        state: see `modelmax_async.ledger`.
        since: when it entered this state, seconds since the epoch.
        owner: the client that claimed it, while claimed or armed.
        attempt: the id of the latest attempt at the billed call.
        lease_until: when the latest lease ends by the ledger's clock, in seconds since the
            epoch. Every claim and renewal makes it later, so that one that stands still
            tells that the owner is gone, whatever the clocks say.
        lease: the length of that lease in seconds.
        resting: the state that the latest attempt began from.
        decided: the earlier attempt that the latest one was decided to pay over, if any.
        phase: for an uncertain entry: ``"sent"``, or ``"answered"`` once bytes came back.
        cause: for an uncertain entry: what happened, in words.
        error: for a failed entry: the server's text.
        body: for a stored entry: the paid answer, byte for byte.
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
    """What to make (API §1); a parameter left at ``None`` is not sent.

    Args:
        aspect_ratio: ``"16:9"`` or ``"9:16"``.
        resolution: ``"720p"``, ``"1080p"`` or ``"4k"``.
        duration_seconds: 1 to 8 seconds.
        generate_audio: with sound or without.
        sample_count: 1 to 4 videos.
        negative_prompt: what to avoid.
        image: a base64 image, for image-to-video.
        extra: further keys, sent as they are.

    Raises:
        ValueError: for a value outside its documented range.
    """

    aspect_ratio: str | None = attrs.field(default=None, validator=valid.one_of("16:9", "9:16"))
    resolution: str | None = attrs.field(
        default=None, validator=valid.one_of("720p", "1080p", "4k")
    )
    duration_seconds: int | None = attrs.field(default=None, validator=valid.between(1, 8))
    generate_audio: bool | None = attrs.field(default=None, validator=valid.flag)
    sample_count: int | None = attrs.field(default=None, validator=valid.between(1, 4))
    negative_prompt: str | None = attrs.field(default=None, validator=valid.optional_text)
    image: str | None = attrs.field(default=None, validator=valid.optional_text, repr=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict, validator=valid.mapping, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented spelling of what was set, and ``extra`` beside it."""
        known = attrs.asdict(self, filter=lambda field, _: field.name != "extra")
        return {k: v for k, v in known.items() if v is not None} | dict(self.extra)


for _public in (
    Job,
    LedgerEntry,
    Outcome,
    Result,
    Status,
    StatusReport,
    Usage,
    Video,
    VideoParameters,
):
    _public.__module__ = "modelmax_async"

"""Jobs: what they are told to do, and where they stand at a given time."""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import define, field, frozen

from modelmax_async.emulator.content import Content


@frozen(kw_only=True)
class JobScript:
    """How a job goes.

    Attributes:
        queue_seconds: Seconds as IN_QUEUE.
        run_seconds: Seconds as IN_PROGRESS after that.
        outcome: How it ends.
        error: The error text of a job that FAILED.
        statuses: Answer these words instead, one a status call, the last one for
            ever; they may be words that the API does not know. Result calls repeat
            what the status endpoint said last, and step through the words themselves
            as long as nobody has asked for the status.
        lag_polls: How many result calls still say IN_PROGRESS after the job COMPLETED.
        videos: How many videos; by default the `sample_count` of the submit.
        data: Replaces the `data` of the result.
        extra: Further fields in every JSON answer about the job.
        usage: Replaces the `usage` of the result.
        content: How the content endpoint behaves.
    """

    queue_seconds: float = 0.0
    run_seconds: float = 0.0
    outcome: Literal["COMPLETED", "FAILED"] = "COMPLETED"
    error: str = "the provider could not make this video"
    statuses: tuple[str, ...] | None = None
    lag_polls: int = 0
    videos: int | None = None
    data: object | None = None
    extra: Mapping[str, Any] = field(factory=dict)
    usage: Mapping[str, Any] | None = None
    content: Content = field(factory=Content)


@define(kw_only=True)
class EmulatedJob:
    """A job of the emulator.

    Attributes:
        request_id: Its id.
        content_id: The id in the URLs of its videos.
        model: The model it was submitted to.
        script: How it goes.
        body: The JSON body of its submit; empty for a job added by hand.
        started_at: Loop time in seconds at which its clock started; `None` until the
            first request about it, for a job added outside of an event loop.
        polls: Status calls answered.
        lag_left: Result calls that will still say IN_PROGRESS.
        content_calls: Content calls answered.
        cuts_left: Content calls that will still be cut short.
    """

    request_id: str
    content_id: str
    model: str
    script: JobScript
    body: Mapping[str, Any] = field(factory=dict, repr=False)
    started_at: float | None = None
    polls: int = 0
    lag_left: int = field(init=False)
    content_calls: int = 0
    cuts_left: int = field(init=False)
    _step: int = field(default=-1, init=False)

    def __attrs_post_init__(self) -> None:
        content = self.script.content
        self.lag_left = self.script.lag_polls
        self.cuts_left = 0 if content.cut_after is None else content.cut_times

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters it was submitted with."""
        return self.body.get("parameters") or {}

    def status_word(self, now: float) -> str:
        """Answer a status call at loop time `now`."""
        self.polls += 1
        return self._word(now, step=True)

    def result_word(self, now: float) -> str:
        """Answer a result call at loop time `now`, which lags behind if told so."""
        word = self._word(now, step=not self.polls)
        if word == "COMPLETED" and self.lag_left:
            self.lag_left -= 1
            return "IN_PROGRESS"
        return word

    def take_cut(self) -> bool:
        """Return whether this content call is to be cut short, and count it."""
        cut = self.cuts_left > 0
        self.cuts_left -= cut
        return cut

    def _word(self, now: float, *, step: bool) -> str:
        words = self.script.statuses
        if words:
            self._step = min(self._step + step, len(words) - 1)
            return words[self._step]
        if self.started_at is None:
            self.started_at = now
        age = now - self.started_at
        if age < self.script.queue_seconds:
            return "IN_QUEUE"
        if age < self.script.queue_seconds + self.script.run_seconds:
            return "IN_PROGRESS"
        return self.script.outcome

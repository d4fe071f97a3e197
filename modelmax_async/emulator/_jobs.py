"""Jobs: their scripts, and their status at a given time."""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import define, field, frozen

from modelmax_async._reprs import always_shown
from modelmax_async.emulator._content import Content


@always_shown
@frozen(kw_only=True)
class JobScript:
    """How a job goes.

    Attributes:
        queue_seconds: Seconds as IN_QUEUE.
        run_seconds: Seconds as IN_PROGRESS after that.
        outcome: Its final status.
        error: The error text of a job that FAILED.
        statuses: Report these statuses instead, one for each status call, then the last
            one; they need not be known to the API. Result calls repeat the status of the
            last status call, or step through the statuses themselves before the first.
        lag_polls: How many result calls still say IN_PROGRESS after the job COMPLETED.
        videos: The number of videos; by default the ``sample_count`` of the submit.
        data: Replaces the `data` of the result.
        extra: Further fields in every JSON response about the job.
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


@always_shown
@define(kw_only=True)
class EmulatedJob:
    """A job of the emulator.

    Attributes:
        request_id: Its id.
        content_id: The id in the URLs of its videos.
        model: The model it was submitted to.
        script: How it goes.
        body: The JSON body of its submit; empty for a job of `Emulator.add_job`.
        started_at: Loop time in seconds at which its clock started; for a job added
            outside an event loop, `None` until the first request about it.
        polls: Status calls handled.
        lag_left: Result calls that will still say IN_PROGRESS.
        content_calls: Content calls handled.
        cuts_left: Content calls that will still be cut.
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
        """The parameters of its submit."""
        return self.body.get("parameters") or {}

    def poll_status(self, now: float) -> str:
        """Return the status for a status call at loop time `now`."""
        self.polls += 1
        return self._status(now, step=True)

    def result_status(self, now: float) -> str:
        """Return the status for a result call at loop time `now`, which may lag behind."""
        status = self._status(now, step=not self.polls)
        if status == "COMPLETED" and self.lag_left:
            self.lag_left -= 1
            return "IN_PROGRESS"
        return status

    def peek(self, now: float) -> str:
        """Return the status at loop time `now`, without the effects of a call."""
        if self.script.statuses:
            return self.script.statuses[max(self._step, 0)]
        return self._status_at_age(0.0 if self.started_at is None else now - self.started_at)

    def take_cut(self) -> bool:
        """Return whether this content call is cut, and count it."""
        cut = self.cuts_left > 0
        self.cuts_left -= cut
        return cut

    def _status(self, now: float, *, step: bool) -> str:
        statuses = self.script.statuses
        if statuses:
            self._step = min(self._step + step, len(statuses) - 1)
            return statuses[self._step]
        if self.started_at is None:
            self.started_at = now
        return self._status_at_age(now - self.started_at)

    def _status_at_age(self, age: float) -> str:
        if age < self.script.queue_seconds:
            return "IN_QUEUE"
        if age < self.script.queue_seconds + self.script.run_seconds:
            return "IN_PROGRESS"
        return self.script.outcome

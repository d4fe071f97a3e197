"""The record of a job that ended while it was polled, for hooks and the log."""

from __future__ import annotations

from modelmax_async._errors import JobFailedError, ModelMaxError
from modelmax_async._polling.job import Done, End, PolledJob, Stopped
from modelmax_async._polling.progress import between
from modelmax_async.events import JobEnded


def ended_job(polled: PolledJob, end: End, now: float) -> JobEnded | None:
    """Return the record of the end; ``None`` if no poll has seen that the job ended."""
    progress, last, observation = polled.progress, polled.last, polled.observation
    if progress.ended is None or last is None:
        return None
    since_submit = observation.since_submit(now)
    running = progress.running
    return JobEnded(
        job=polled.job,
        status=last.status,
        seconds=now - polled.started if since_submit is None else since_submit,
        polls=progress.polls,
        fetched=isinstance(end, Done),
        error=_text_of(end),
        queue_seconds=None if running is None else observation.since_submit(running),
        generation_seconds=between(running, progress.ended),
        lag_seconds=between(progress.alive, progress.ended),
    )


def _text_of(end: End) -> str:
    if not isinstance(end, Stopped):
        return ""
    if isinstance(end.error, JobFailedError):
        return end.error.error
    name = type(end.error).__name__
    return f"{name}: {end.error}" if isinstance(end.error, ModelMaxError) else name

"""The hook: a span for each wait and each billed call, and what is counted."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from modelmax_async import events
from modelmax_async._api.paths import RESULT_TEMPLATE
from modelmax_async._models import Job
from modelmax_async._reprs import always_shown
from modelmax_async._version import VERSION
from modelmax_async.opentelemetry._instruments import Instruments, labels, response_attributes

_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
#: The errors of waits that their callers left.
_LEFT = frozenset({"CancelledError", "GeneratorExit"})


@always_shown
class OpenTelemetryHook:
    """A hook that makes spans and metrics. One may serve all clients of an event loop.

    It neither blocks nor exports anything: the SDK of OpenTelemetry does that. Without an SDK,
    it has no effect.

    Args:
        tracer_provider: the provider of the tracer; the global one by default.
        meter_provider: the provider of the meter; the global one by default.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        name = "modelmax_async"
        self._tracer = trace.get_tracer(name, VERSION, tracer_provider, _SCHEMA)
        self._to = Instruments(metrics.get_meter(name, VERSION, meter_provider, _SCHEMA))
        # The spans of open waits, by job and number, and of billed calls, by attempt.
        self._waits: dict[tuple[str, str], dict[int, Span]] = {}
        self._calls: dict[str, Span] = {}
        self._note: dict[type[events.Event], Callable[[Any], None]] = {
            events.AnswerDiscarded: lambda event: self._outcome(event, "discarded"),
            events.BilledCallArmed: self._call_armed,
            events.CallEnded: self._call_ended,
            events.CallRetried: self._call_retried,
            events.ClaimReleased: lambda event: self._outcome(event, "not_charged"),
            events.JobEnded: self._to.job_ended,
            events.PollFailed: self._poll_failed,
            events.ResultStored: lambda event: self._outcome(event, "charged"),
            events.ResultUncertain: self._uncertain,
            events.StatusPolled: self._polled,
            events.WaitEnded: self._wait_ended,
            events.WaitStarted: self._wait_started,
        }

    def __repr__(self) -> str:
        waits = sum(map(len, self._waits.values()))
        return f"<OpenTelemetryHook: {waits} waits, {len(self._calls)} billed calls>"

    def __call__(self, event: events.Event) -> None:
        """Note an event of a client."""
        note = self._note.get(type(event))
        if note is not None:
            note(event)

    def _wait_started(self, event: events.WaitStarted) -> None:
        name, attributes = f"wait {event.job.model}", _attributes(event.job)
        span = self._tracer.start_span(name, attributes=attributes)
        self._waits.setdefault(_key(event.job), {})[event.wait] = span

    def _wait_ended(self, event: events.WaitEnded) -> None:
        waits = self._waits.get(_key(event.job), {})
        span = waits.pop(event.wait, None)
        if not waits:
            self._waits.pop(_key(event.job), None)
        if span is None:
            return
        if event.error is not None:
            span.set_attribute("error.type", event.error)
            if event.error not in _LEFT:
                span.set_status(StatusCode.ERROR, event.cause or None)
        span.end()

    def _polled(self, event: events.StatusPolled) -> None:
        self._to.polls.add(1, labels(event.job.model, event.status))
        self._tell(event.job, "modelmax.poll", {"modelmax.status": str(event.status)})

    def _poll_failed(self, event: events.PollFailed) -> None:
        call: dict[str, Any] = {"modelmax.call": event.call}
        self._to.retries.add(1, labels(event.job.model) | call)
        about = {"modelmax.cause": event.cause, "modelmax.delay": event.delay}
        self._tell(event.job, "modelmax.retry", call | about)

    def _call_retried(self, event: events.CallRetried) -> None:
        call: dict[str, Any] = {"modelmax.call": event.call}
        self._to.retries.add(1, labels(event.model) | call)
        if event.job is not None:
            about = {"modelmax.cause": event.cause, "modelmax.delay": event.delay}
            self._tell(event.job, "modelmax.retry", call | about)

    def _tell(self, job: Job, name: str, attributes: dict[str, Any]) -> None:
        """Add an event to the spans of the waits for a job."""
        for span in self._waits.get(_key(job), {}).values():
            span.add_event(name, attributes)

    def _call_armed(self, event: events.BilledCallArmed) -> None:
        """Start the span of a billed call.

        It runs in a task of the client, whose context is not that of a caller.
        """
        waits = list(self._waits.get(_key(event.job), {}).values())
        context = trace.set_span_in_context(waits[0], Context()) if waits else Context()
        server = urlsplit(event.url)
        self._calls[event.attempt] = self._tracer.start_span(
            f"GET {RESULT_TEMPLATE}",
            context,
            SpanKind.CLIENT,
            _attributes(event.job)
            | {
                "http.request.method": "GET",
                "url.full": event.url,
                "url.template": RESULT_TEMPLATE,
                "server.address": server.hostname or "",
                "modelmax.attempt": event.attempt,
            },
            [Link(span.get_span_context()) for span in waits[1:]],
        )

    def _outcome(
        self,
        event: events.AnswerDiscarded
        | events.ClaimReleased
        | events.ResultStored
        | events.ResultUncertain,
        outcome: str,
    ) -> None:
        """Note the outcome of a billed call, if it was sent."""
        span = self._calls.get(event.attempt)
        if span is not None:
            span.set_attribute("modelmax.outcome", outcome)
            attributes = labels(event.job.model) | {"modelmax.outcome": outcome}
            self._to.billed_calls.add(1, attributes)

    def _uncertain(self, event: events.ResultUncertain) -> None:
        attributes = labels(event.job.model) | {"modelmax.phase": event.phase}
        self._to.uncertain.add(1, attributes)
        self._outcome(event, "uncertain")
        span = self._calls.get(event.attempt)
        if span is not None:
            span.set_attributes(
                {"error.type": "ResultUncertainError", "modelmax.cause": event.cause}
            )
            span.set_status(StatusCode.ERROR)

    def _call_ended(self, event: events.CallEnded) -> None:
        self._to.call_ended(event)
        span = self._calls.pop(event.attempt, None)
        if span is None:
            return
        found = response_attributes(event)
        span.set_attributes({"server.port": event.port} | found)
        if "error.type" in found:
            span.set_status(StatusCode.ERROR)
        span.end()


def _key(job: Job) -> tuple[str, str]:
    return job.request_id, job.model


def _attributes(job: Job) -> dict[str, Any]:
    found = {"modelmax.job.id": job.request_id, "modelmax.model": job.model}
    return found if job.key is None else found | {"modelmax.job.key": job.key}

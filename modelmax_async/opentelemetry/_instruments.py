"""The metrics, by name, unit and attributes."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.metrics import Histogram, Meter

from modelmax_async._models import Status
from modelmax_async.events import CallEnded, JobEnded

_ERROR = 400  # the first HTTP status that is an error
#: Bounds of buckets in seconds: those of the conventions for requests, and those of jobs.
_REQUESTS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_JOBS = (1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600)
_LAGS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 30, 60)

Attributes = Mapping[str, Any]


class Instruments:
    """The metrics of the clients that share a hook."""

    def __init__(self, meter: Meter) -> None:
        count = meter.create_counter
        self.polls = count("modelmax.polls", "{poll}", "Status calls that succeeded.")
        self.billed_calls = count(
            "modelmax.billed_calls", "{call}", "Billed calls that were sent, by outcome."
        )
        self.uncertain = count(
            "modelmax.results.uncertain", "{result}", "Billed calls of uncertain outcome."
        )
        self.retries = count(
            "modelmax.retries", "{retry}", "Calls that failed at no cost and are sent again."
        )
        self._requests = _seconds(
            meter, "http.client.request.duration", "Duration of HTTP requests.", _REQUESTS
        )
        self._queued = _seconds(
            meter,
            "modelmax.job.queue_time",
            "From the submit to the first poll that saw the job in progress.",
            _JOBS,
        )
        self._generated = _seconds(
            meter,
            "modelmax.job.generation_time",
            "From the first poll that saw the job in progress to the one that saw its end.",
            _JOBS,
        )
        self._lag = _seconds(
            meter, "modelmax.job.lag", "How late the end of a job was seen, at most.", _LAGS
        )

    def call_ended(self, event: CallEnded) -> None:
        """Record an HTTP exchange."""
        attributes: dict[str, Any] = {
            "http.request.method": event.method,
            "server.address": event.host,
            "server.port": event.port,
        }
        self._requests.record(event.seconds, attributes | response_attributes(event))

    def job_ended(self, event: JobEnded) -> None:
        """Record the times of a job, as far as its polls tell them."""
        attributes = labels(event.job.model, event.status)
        for histogram, seconds in (
            (self._queued, event.queue_seconds),
            (self._generated, event.generation_seconds),
            (self._lag, event.lag_seconds),
        ):
            if seconds is not None:
                histogram.record(max(0.0, seconds), attributes)


def _seconds(meter: Meter, name: str, about: str, bounds: tuple[float, ...]) -> Histogram:
    return meter.create_histogram(name, "s", about, explicit_bucket_boundaries_advisory=bounds)


def labels(model: str | None, status: str | None = None) -> dict[str, Any]:
    """Return the attributes of a metric; the number of undocumented words has no bound."""
    found: dict[str, Any] = {} if model is None else {"modelmax.model": model}
    if status is not None:
        found["modelmax.status"] = str(status) if status in set(Status) else "_OTHER"
    return found


def response_attributes(event: CallEnded) -> dict[str, Any]:
    """Return the attributes of how an HTTP exchange ended, by the conventions."""
    found: dict[str, Any] = {}
    if event.status_code is not None:
        found["http.response.status_code"] = event.status_code
    failed = event.status_code is not None and event.status_code >= _ERROR
    if event.error is not None or failed:
        found["error.type"] = event.error or str(event.status_code)
    return found

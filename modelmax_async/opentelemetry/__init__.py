"""Traces and metrics of a client, for OpenTelemetry (extra ``otel``).

::

    AsyncQueueClient(hooks=[OpenTelemetryHook()])

Spans: ``wait {model}`` for each caller's wait for a job, in the trace of that caller and with
the polls as its events; and a client span for each billed call, by the semantic conventions for
HTTP. Its parent is the first open wait for the job, and it links to the other ones.

Metrics: ``http.client.request.duration`` by the same conventions, counters of polls, billed
calls, uncertain outcomes and retries, and the times of jobs. Their attributes are bounded: the
model, the status and the like, never the id of a job.
"""

try:
    from modelmax_async.opentelemetry._hook import OpenTelemetryHook
except ModuleNotFoundError as _missing:
    raise ImportError(
        "modelmax_async.opentelemetry needs the OpenTelemetry API: "
        'python -m pip install "modelmax-async[otel]"'
    ) from _missing

__all__ = ["OpenTelemetryHook"]

OpenTelemetryHook.__module__ = __name__

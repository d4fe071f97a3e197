"""Spans and metrics, as the SDK of OpenTelemetry receives them."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
from ledgers import Handle, on
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from strategies import JOB
from support import STEADY, in_process, in_virtual_time, until

from modelmax_async import (
    Job,
    JobFailedError,
    MemoryLedger,
    ResultUncertainError,
    events,
)
from modelmax_async._runtime import clock
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.ledger import Arm, Move
from modelmax_async.opentelemetry import OpenTelemetryHook

pytestmark = [pytest.mark.anyio, in_virtual_time]
WAIT, CALL = "wait veo-3", "GET /v1/queue/{model}/requests/{request_id}"
TEN_SECONDS = JobScript(queue_seconds=3, run_seconds=7)
Point = tuple[Mapping[str, Any], float]


class Telemetry:
    """A hook, and what the SDK has received from it."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._meters = MeterProvider([self._reader])
        self.hook = OpenTelemetryHook(self.tracers, self._meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._spans.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        (found,) = self.spans(name)
        return found

    def points(self, name: str) -> list[NumberDataPoint | HistogramDataPoint]:
        data = self._reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics
        metrics = [m for r in found for scope in r.scope_metrics for m in scope.metrics]
        points: list[Any] = [p for m in metrics if m.name == name for p in m.data.data_points]
        return points

    def counted(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """The attributes and values of a counter."""
        points = self.points(name)
        return [
            (dict(p.attributes or {}), p.value)
            for p in points
            if isinstance(p, NumberDataPoint)
        ]

    def times(self, name: str) -> list[tuple[dict[str, Any], int, float]]:
        """The attributes, counts and sums of a histogram."""
        points = self.points(name)
        return [
            (dict(p.attributes or {}), p.count, p.sum)
            for p in points
            if isinstance(p, HistogramDataPoint)
        ]


@pytest.fixture
def told() -> Telemetry:
    return Telemetry()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def context_of(span: ReadableSpan) -> SpanContext:
    found: SpanContext | None = span.context

    assert found is not None
    return found


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return span.parent is not None and span.parent.span_id == context_of(parent).span_id


def polls_of(span: ReadableSpan) -> list[Any]:
    found = [event for event in span.events if event.name == "modelmax.poll"]
    return [(event.attributes or {})["modelmax.status"] for event in found]


async def test_wait_is_a_span_with_its_polls_and_the_billed_call_its_child(
    emulator: Emulator, told: Telemetry
) -> None:
    emulator.script(TEN_SECONDS)

    async with in_process(emulator, poll=STEADY, hooks=[told.hook]) as client:
        job = await client.submit("A reef", key="row-17")
        await client.wait_for(job)

    wait, call = told.span(WAIT), told.span(CALL)
    about = {
        "modelmax.job.id": job.request_id,
        "modelmax.job.key": "row-17",
        "modelmax.model": "veo-3",
    }
    attempt = attributes(call).pop("modelmax.attempt")

    assert about == attributes(wait)
    assert (SpanKind.INTERNAL, StatusCode.UNSET, None) == (
        wait.kind,
        wait.status.status_code,
        wait.parent,
    )
    assert emulator.polls[job.request_id] == len(polls_of(wait)) > 2
    assert {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"} == set(polls_of(wait))
    assert is_child(call, wait)
    assert (SpanKind.CLIENT, StatusCode.UNSET, 0) == (
        call.kind,
        call.status.status_code,
        len(call.links),
    )
    assert about | {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "modelmax.attempt": attempt,
        "modelmax.outcome": "charged",
        "server.address": "127.0.0.1",
        "server.port": 80,
        "url.full": f"http://127.0.0.1{job.response_url}",
        "url.template": "/v1/queue/{model}/requests/{request_id}",
    } == attributes(call)


async def test_wait_belongs_to_the_trace_of_its_caller(
    emulator: Emulator, told: Telemetry
) -> None:
    tracer = told.tracers.get_tracer("app")
    ids = [emulator.add_job(script=TEN_SECONDS) for _ in range(3)]

    async def ask(name: str, *jobs: str) -> None:
        with tracer.start_as_current_span(name):
            await client.gather_results(jobs)

    async with in_process(emulator, hooks=[told.hook]) as client:
        await asyncio.gather(ask("one", *ids[:2]), ask("other", ids[2]))

    parents = {
        attributes(wait)["modelmax.job.id"]: next(
            name for name in ("one", "other") if is_child(wait, told.span(name))
        )
        for wait in told.spans(WAIT)
    }
    calls = {context_of(call).trace_id for call in told.spans(CALL)}

    assert dict(zip(ids, ("one", "one", "other"), strict=True)) == parents
    assert calls == {context_of(told.span(name)).trace_id for name in ("one", "other")}


async def test_failed_job_ends_its_wait_with_an_error(
    emulator: Emulator, told: Telemetry
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="nsfw"))

    async with in_process(emulator, hooks=[told.hook]) as client:
        with pytest.raises(JobFailedError) as caught:
            await client.wait_for(request_id)

    wait = told.span(WAIT)

    assert "JobFailedError" == attributes(wait)["error.type"]
    assert (StatusCode.ERROR, str(caught.value)) == (
        wait.status.status_code,
        wait.status.description,
    )
    assert [] == told.spans(CALL)
    assert [({"modelmax.model": "veo-3", "modelmax.status": "FAILED"}, 1)] == told.counted(
        "modelmax.polls"
    )


@pytest.mark.parametrize(
    ("fault", "end", "phase"),
    [
        (Fault.drop_after(), (None, "RemoteProtocolError"), "sent"),
        (Fault.html(504), (504, "504"), "answered"),
        (Fault.raw(200, b""), (200, "ResultUncertainError"), "answered"),
    ],
)
async def test_uncertain_outcome_is_an_error_of_its_call(
    fault: Fault,
    end: tuple[int | None, str],
    phase: str,
    emulator: Emulator,
    told: Telemetry,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", fault)

    async with in_process(emulator, hooks=[told.hook]) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    call, wait = told.span(CALL), told.span(WAIT)
    found = attributes(call)

    assert ("uncertain", *end) == (
        found["modelmax.outcome"],
        found.get("http.response.status_code"),
        found["error.type"],
    )
    assert found["modelmax.cause"]
    assert StatusCode.ERROR == call.status.status_code == wait.status.status_code
    assert [({"modelmax.model": "veo-3", "modelmax.phase": phase}, 1)] == told.counted(
        "modelmax.results.uncertain"
    )
    assert [({"modelmax.model": "veo-3", "modelmax.outcome": "uncertain"}, 1)] == told.counted(
        "modelmax.billed_calls"
    )


async def test_retries_are_counted_by_call(
    emulator: Emulator, told: Telemetry, tmp_path: Path
) -> None:
    for endpoint in ("submit", "status", "result", "content"):
        emulator.fault(endpoint, Fault.error(502))

    async with in_process(emulator, hooks=[told.hook]) as client:
        result = await client.generate("A reef")
        await client.download(result, tmp_path)
        emulator.fault("status", Fault.error(502))
        await client.status(result.request_id)

    retries = {a["modelmax.call"]: value for a, value in told.counted("modelmax.retries")}
    outcomes = [attributes(call)["modelmax.outcome"] for call in told.spans(CALL)]
    told_of = [e.attributes or {} for e in told.span(WAIT).events if e.name == "modelmax.retry"]

    assert {"submit": 1, "status": 2, "result": 1, "content": 1} == retries
    assert {"veo-3"} == {a["modelmax.model"] for a, _ in told.counted("modelmax.retries")}
    assert ["not_charged", "charged"] == outcomes
    assert [("status", True), ("result", True)] == [
        (about["modelmax.call"], "502" in str(about["modelmax.cause"])) for about in told_of
    ]
    assert [StatusCode.ERROR, StatusCode.UNSET] == [
        call.status.status_code for call in told.spans(CALL)
    ]


async def test_retry_of_a_single_call_is_an_event_of_its_wait(
    emulator: Emulator, told: Telemetry
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.error(429))

    async with in_process(emulator, hooks=[told.hook]) as client:
        await client.result(request_id)

    assert ["modelmax.retry"] == [event.name for event in told.span(WAIT).events]
    assert all(is_child(call, told.span(WAIT)) for call in told.spans(CALL))
    assert 2 == len(told.spans(CALL))


async def test_cancelled_wait_ends_without_an_error_status(
    emulator: Emulator, told: Telemetry
) -> None:
    request_id = emulator.add_job(script=TEN_SECONDS)

    async with in_process(emulator, hooks=[told.hook]) as client:
        waits = [
            asyncio.create_task(client.wait_for(request_id)),
            asyncio.create_task(client.gather_results([request_id])),
        ]
        await asyncio.sleep(1)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

        assert "<OpenTelemetryHook: 0 waits, 0 billed calls>" == repr(told.hook)

    assert [("CancelledError", StatusCode.UNSET)] * 2 == [
        (attributes(wait)["error.type"], wait.status.status_code) for wait in told.spans(WAIT)
    ]


async def test_billed_call_whose_caller_left_has_a_trace_of_its_own(
    emulator: Emulator, told: Telemetry
) -> None:
    """It is armed after the caller has left, in a task that has the caller's context."""
    request_id = emulator.add_job()

    async def leave(_: Move) -> None:
        waiting.cancel()
        await asyncio.sleep(1)

    ledger = Handle(MemoryLedger(), before=on(Arm, leave))
    tracer = told.tracers.get_tracer("app")

    async with in_process(emulator, ledger=ledger, hooks=[told.hook]) as client:
        with tracer.start_as_current_span("request"):
            waiting = asyncio.create_task(client.wait_for(request_id))
            await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: told.spans(CALL))

    assert None is told.span(CALL).parent
    assert {request_id: 1} == emulator.billed


async def test_two_waits_share_the_polls_and_the_call_links_to_both(
    emulator: Emulator, told: Telemetry
) -> None:
    request_id = emulator.add_job(script=TEN_SECONDS)

    async with in_process(emulator, poll=STEADY, hooks=[told.hook]) as client:
        await asyncio.gather(client.wait_for(request_id), client.wait_for(request_id))

    first, second = told.spans(WAIT)
    call = told.span(CALL)

    assert polls_of(first) == polls_of(second)
    assert emulator.polls[request_id] == len(polls_of(first))
    assert is_child(call, first)
    assert [context_of(second).span_id] == [link.context.span_id for link in call.links]


async def test_batch_has_a_span_for_each_wait_and_each_call(
    emulator: Emulator, told: Telemetry
) -> None:
    ids = [emulator.add_job(script=TEN_SECONDS) for _ in range(50)]

    async with in_process(emulator, hooks=[told.hook]) as client:
        await client.gather_results([*ids, ids[0]])

    waits = {attributes(wait)["modelmax.job.id"]: wait for wait in told.spans(WAIT)}
    calls = {attributes(call)["modelmax.job.id"]: call for call in told.spans(CALL)}

    assert set(ids) == set(waits) == set(calls)
    assert 50 == len(told.spans(WAIT)) == len(told.spans(CALL))
    assert all(is_child(calls[id_], waits[id_]) for id_ in ids)
    assert [({"modelmax.model": "veo-3", "modelmax.outcome": "charged"}, 50)] == told.counted(
        "modelmax.billed_calls"
    )


async def test_result_from_the_ledger_is_a_wait_without_a_call(
    emulator: Emulator, told: Telemetry
) -> None:
    async with in_process(emulator, hooks=[told.hook]) as client:
        result = await client.generate("A reef")
        await client.wait_for(result.request_id)

    assert [1, 0] == [len(polls_of(wait)) for wait in told.spans(WAIT)]
    assert 1 == len(told.spans(CALL))


async def test_times_of_a_job_are_those_between_its_polls(
    emulator: Emulator, told: Telemetry
) -> None:
    emulator.script(TEN_SECONDS)
    labels = {"modelmax.model": "veo-3", "modelmax.status": "COMPLETED"}

    async with in_process(emulator, poll=STEADY, hooks=[told.hook]) as client:
        await client.generate("A reef")

    ((first, _, queued),) = told.times("modelmax.job.queue_time")
    ((second, _, generated),) = told.times("modelmax.job.generation_time")
    ((third, _, lag),) = told.times("modelmax.job.lag")

    assert first == second == third == labels
    assert 3 <= queued < 3 + 10
    assert 10 <= queued + generated < 10 + lag
    assert 0 < lag < 10


async def test_times_that_the_polls_do_not_tell_are_not_recorded(
    emulator: Emulator, told: Telemetry
) -> None:
    async with in_process(emulator, hooks=[told.hook]) as client:
        await client.wait_for(emulator.add_job())

    assert [] == [
        name
        for name in ("queue_time", "generation_time", "lag")
        if told.times(f"modelmax.job.{name}")
    ]


async def test_requests_are_recorded_by_the_conventions(
    emulator: Emulator, told: Telemetry, tmp_path: Path
) -> None:
    emulator.fault("status", Fault.error(502))
    emulator.fault("status", Fault.garble())
    emulator.fault("content", Fault.truncate(100))
    server = {"server.address": "127.0.0.1", "server.port": 80}

    async with in_process(emulator, hooks=[told.hook]) as client:
        await client.download(await client.generate("A reef"), tmp_path)

    found = told.times("http.client.request.duration")
    histogram = told.points("http.client.request.duration")[0]

    assert sum(number for _, number, _ in found) == len(emulator.requests)
    assert all(server.items() <= about.items() for about, _, _ in found)
    assert {
        ("POST", 202, None, 1),
        ("GET", 502, "502", 1),
        ("GET", 200, "InvalidResponseError", 1),
        ("GET", 200, "RemoteProtocolError", 1),
    } <= {
        (
            about["http.request.method"],
            about.get("http.response.status_code"),
            about.get("error.type"),
            number,
        )
        for about, number, _ in found
    }
    assert isinstance(histogram, HistogramDataPoint)
    assert (0.005, 10) == (histogram.explicit_bounds[0], histogram.explicit_bounds[-1])


async def test_metrics_have_no_attribute_without_a_bound(
    emulator: Emulator, told: Telemetry
) -> None:
    emulator.script(JobScript(statuses=("PAUSED", "ODD", "COMPLETED")))
    names = {"modelmax.polls", "modelmax.billed_calls", "http.client.request.duration"}

    async with in_process(emulator, hooks=[told.hook]) as client:
        result = await client.generate("A reef")

    points = [point for name in names for point in told.points(name)]

    assert not any(result.request_id in map(str, (p.attributes or {}).values()) for p in points)
    assert {"_OTHER", "COMPLETED"} == {
        about["modelmax.status"] for about, _ in told.counted("modelmax.polls")
    }
    assert ["PAUSED", "ODD", "COMPLETED"] == polls_of(told.span(WAIT))


async def test_two_clients_share_a_hook(emulator: Emulator, told: Telemetry) -> None:
    ids = [emulator.add_job(script=TEN_SECONDS) for _ in range(3)]

    async with (
        in_process(emulator, hooks=[told.hook]) as one,
        in_process(emulator, hooks=[told.hook], ledger=one._engine.records.ledger) as other,
    ):
        await asyncio.gather(one.gather_results(ids), other.gather_results(ids))

        assert "<OpenTelemetryHook: 0 waits, 0 billed calls>" == repr(told.hook)

    assert 6 == len(told.spans(WAIT))
    assert 3 == len(told.spans(CALL)) == emulator.billed_total


async def test_call_that_is_given_up_before_its_first_byte_is_no_open_span(
    emulator: Emulator, told: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook is told that the call is armed, and takes so long that the lease runs out."""
    request_id = emulator.add_job()
    late = [60.0]

    def block(event: events.Event) -> None:
        if isinstance(event, events.BilledCallArmed) and late:
            now = clock.boottime() + late.pop()
            monkeypatch.setattr(clock, "boottime", lambda: now)

    async with in_process(emulator, hooks=[told.hook, block]) as client:
        await client.wait_for(request_id)

    assert "<OpenTelemetryHook: 0 waits, 0 billed calls>" == repr(told.hook)
    assert ["not_charged", "charged"] == [
        attributes(call)["modelmax.outcome"] for call in told.spans(CALL)
    ]
    assert {request_id: 1} == emulator.billed


async def test_hook_without_an_sdk_does_nothing(emulator: Emulator) -> None:
    async with in_process(emulator, hooks=[OpenTelemetryHook()]) as client:
        result = await client.generate("A reef")

    assert {result.request_id: 1} == emulator.billed


async def test_state_of_a_job_is_dropped_at_its_end() -> None:
    hook = OpenTelemetryHook()
    numbers = count()
    for number in range(10_000):
        job = attrs.evolve(JOB, request_id=f"req-{number}")
        wait, late = next(numbers), next(numbers)
        call = {"method": "GET", "host": "h", "port": 443, "seconds": 0.5, "job": job}
        for event in _life(job, wait, late, call):
            hook(event)

    assert "<OpenTelemetryHook: 0 waits, 0 billed calls>" == repr(hook)
    assert ({}, {}) == (hook._waits, hook._calls)


def _life(job: Job, wait: int, late: int, call: dict[str, Any]) -> Sequence[events.Event]:
    attempt = f"a-{wait}"
    return (
        events.JobSubmitted(job, "h"),
        events.WaitStarted(job, wait),
        events.WaitStarted(job, late),
        events.StatusPolled(job, "COMPLETED"),
        events.WaitEnded(job, late, 1.5, "CancelledError"),
        events.BilledCallArmed(job, attempt, "https://h/r"),
        events.AnswerDiscarded(job, attempt),
        events.CallEnded(call="result", attempt=attempt, **call),
        events.WaitEnded(job, wait, 1.5),
        events.PollingPaused(3.0),
    )


async def test_records_without_their_beginning_are_no_error(told: Telemetry) -> None:
    """A hook may be given to a second client while jobs are open."""
    told.hook(events.WaitEnded(JOB, 7, 1.5))
    told.hook(events.ResultStored(JOB, "a1"))
    told.hook(events.ResultUncertain(JOB, "sent", "it broke", "a1"))
    told.hook(events.CallRetried(call="submit", cause="HTTP 502", delay=1.0))

    assert [] == told.spans(WAIT) + told.spans(CALL)
    assert [({"modelmax.call": "submit"}, 1)] == told.counted("modelmax.retries")


async def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("modelmax_async.opentel")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(ImportError, match=r"pip install .*modelmax-async\[otel\]"):
        importlib.import_module("modelmax_async.opentelemetry")

"""Every public value and error: read by plain cattrs, copied, and stored as a pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import cattrs
import pytest
from strategies import PNG

import modelmax_async
from modelmax_async import (
    AdaptivePolicy,
    Expected,
    Failed,
    Forecast,
    Job,
    LedgerEntry,
    LedgerUsage,
    ModelMaxError,
    ModelUsage,
    Outcome,
    PollPolicy,
    ResourceLimits,
    Result,
    RetryPolicy,
    Status,
    StatusReport,
    Succeeded,
    Usage,
    Video,
    VideoParameters,
    VideoRequest,
    WaitState,
    events,
    ledger,
)
from modelmax_async import _errors as errors

#: Pickles of `VALUES` and `ERRORS`, one file for each protocol. They are never written again:
#: what users have stored must load in every later version.
STORED = sorted((Path(__file__).parent / "fixtures").glob("values_protocol_*.pickle"))

JOB = Job("veo-3", "req-1", "/v1/queue/veo-3/requests/req-1/status", "/r/1")
BROKEN = ModelMaxError("it broke", job=JOB)
RESULT = Result(
    "req-1",
    "veo-3",
    (Video("/v1/content/0", 0),),
    Usage(8.0, "720p", video_has_audio=True),
    {"data": [{"url": "/v1/content/0"}]},
)
ENTRY = LedgerEntry(
    job=JOB,
    state="uncertain",
    since=1.5,
    owner="me",
    attempt="a1",
    lease_until=2.5,
    lease=12.0,
    resting="known",
    decided="a0",
    phase="sent",
    cause="it broke",
    error="no",
    body=b"\x00{}",
    acknowledged=False,
)
SUBMISSION = ledger.Submission(
    fingerprint="print", since=1.5e9, attempt="a1", lease_until=2.5, lease=12.0, job=JOB
)
VALUES: list[Any] = [
    JOB,
    StatusReport("req-1", Status.FAILED, "nsfw", {"status": "FAILED"}),
    StatusReport("req-1", "PAUSED"),
    RESULT.videos[0],
    RESULT.usage,
    RESULT,
    Succeeded(JOB, RESULT),
    ENTRY,
    VideoParameters(resolution="4k", duration_seconds=8, extra={"seed": 5}),
    PollPolicy(2.0, jitter=0.5),
    RetryPolicy(2.0, attempts=7),
    ledger.Look(JOB),
    ledger.Remember(JOB),
    ledger.Claim(JOB, "me", "a1", 12.0, "a0", 2.5, acknowledged=True),
    ledger.Arm("a1", 12.0),
    ledger.Renew("a1", 12.0),
    ledger.Store(JOB, "a1", b"\x00{}"),
    ledger.Release("a1"),
    ledger.Fail("nsfw", "a1", 2.5),
    ledger.Uncertain("a1", "answered", "HTTP 504"),
    ledger.Step(ENTRY, granted=True),
    events.JobSubmitted(JOB),
    events.StatusPolled(JOB, Status.IN_QUEUE),
    events.PollFailed(JOB, "HTTP 502", 1.5),
    events.PollingPaused(30.0),
    events.BilledCallArmed(JOB, "a1"),
    events.ResultStored(JOB, "a1"),
    events.AnswerDiscarded(JOB, "a1"),
    events.UnarmedAnswer(JOB, "a1"),
    events.ClaimReleased(JOB, "HTTP 429"),
    events.ResultUncertain(JOB, "sent", "it broke"),
    events.LedgerFailed(JOB, "disk full"),
    events.VideoSaved("req-1", "videos/req-1-0.mp4", 1234),
]
FORECAST = Forecast(5.0, (0.0, 0.5, 0.25), 12.5)
#: Values that are newer than the stored pickles.
NEWER: list[Any] = [
    attrs.evolve(JOB, submitted_at=1.5e9, key="row-17"),
    VideoRequest("A fox", "veo-3", VideoParameters(sample_count=2), "row-17"),
    ResourceLimits(result_bytes=2**20, least_rate=0.5),
    VideoParameters(image=PNG),
    VideoParameters(image=Path("first.png")),
    Succeeded(JOB, RESULT, VideoRequest("A fox"), (Path("fox.mp4"),)),
    attrs.evolve(ENTRY, saved_at=7.5),
    SUBMISSION,
    events.EntryUnreadable("req-1", "row-17", "lease must be a number"),
    ledger.Forget("req-1", 2.5),
    ledger.MarkSaved(),
    ledger.Prune(1.5e9),
    ledger.Reserve("print", "a1", 12.0, 2.5),
    ledger.Bind("print", "a1", JOB),
    ledger.SubmitKey("https://api.modelmax.io:443", "row-17"),
    ledger.SubmitStep(SUBMISSION, granted=True),
    events.SubmitDiscarded(JOB, attrs.evolve(JOB, request_id="req-2")),
    events.JobSubmitted(JOB, "api.modelmax.io"),
    events.PollFailed(JOB, "HTTP 502", 1.5, "result"),
    events.BilledCallArmed(JOB, "a1", "https://api.modelmax.io/r/1"),
    events.ClaimReleased(JOB, "HTTP 429", "a1"),
    events.ResultUncertain(JOB, "sent", "it broke", "a1"),
    events.WaitStarted(JOB, 7),
    events.WaitEnded(JOB, 7, 1.5, "JobTimeoutError", "5 s"),
    events.CallEnded(
        call="status",
        method="GET",
        host="api.modelmax.io",
        port=443,
        seconds=0.25,
        job=JOB,
        status_code=200,
        error="InvalidResponseError",
        status="IN_QUEUE",
        attempt="a1",
    ),
    events.CallRetried(call="submit", cause="HTTP 502", delay=1.5, model="veo-3", job=JOB),
    events.JobEnded(
        job=JOB,
        status=Status.COMPLETED,
        seconds=73.25,
        polls=14,
        fetched=True,
        error="no",
        queue_seconds=5.0,
        generation_seconds=65.5,
        lag_seconds=1.5,
    ),
    Expected(40.0, 90.5),
    ModelUsage(results=2, videos=3, seconds=16.5),
    LedgerUsage(
        results=2,
        videos=3,
        seconds=16.5,
        by_model={"veo-3": ModelUsage(results=2, videos=3, seconds=16.5)},
        unmetered=1,
        unreadable=2,
        dropped=3,
        uncertain=4,
    ),
    AdaptivePolicy(poll_cost=0.5),
    FORECAST,
    WaitState(
        model="veo-3",
        attempts=2,
        waited=9.5,
        age=None,
        status=Status.IN_QUEUE,
        status_age=3.0,
        forecast=FORECAST,
    ),
]
#: These have no dict of fields of their own, or hold an error.
OTHERS: list[Any] = [
    Status.COMPLETED,
    ledger.Key("https://api.modelmax.io:443", "req-1"),
    Failed(JOB, BROKEN),
]
_RESPONSE: dict[str, Any] = {
    "status_code": 499,
    "error_type": "some_type",
    "retry_after": 2.5,
    "details": {"amount": [1]},
    "job": JOB,
}
ERRORS: list[ModelMaxError] = [
    BROKEN,
    errors.ConfigurationError("no API key"),
    errors.ClientStateError("closed"),
    errors.TransportError("it broke", maybe_sent=True, job=JOB),
    errors.RequestTimeoutError("30 s", maybe_sent=False, job=JOB),
    errors.APIError("no", **_RESPONSE),
    errors.BadRequestError("no", **_RESPONSE),
    errors.AuthenticationError("no", **_RESPONSE),
    errors.InsufficientBalanceError("no", **_RESPONSE),
    errors.PermissionDeniedError("no", **_RESPONSE),
    errors.NotFoundError("no", **_RESPONSE),
    errors.RateLimitError("no", **_RESPONSE),
    errors.ServerError("no", **_RESPONSE),
    errors.InvalidResponseError("not JSON", body=b"<html>\xff", job=JOB),
    errors.SubmitUncertainError("a job may exist"),
    errors.JobError("odd", job=JOB, last_status="PAUSED"),
    errors.JobFailedError("nsfw", job=JOB),
    errors.JobTimeoutError("5 s", job=JOB, last_status=Status.IN_PROGRESS),
    errors.NotReadyError("IN_QUEUE", job=JOB, last_status=Status.IN_QUEUE),
    errors.InconsistentStateError("COMPLETED, and not", job=JOB),
    errors.ResultUncertainError("HTTP 504", job=JOB, phase="sent", since=5.0, attempt="a1"),
    errors.ResultDroppedError(job=JOB),
    errors.DownloadError("disk full", url="/v1/0", part="a.mp4.part", job=JOB),
    errors.LedgerError("disk full"),
    errors.GatherError("1 failed", [BROKEN], outcomes=[Failed(JOB, BROKEN)]),
]
#: Errors that are newer than the stored pickles.
NEWER_ERRORS: list[ModelMaxError] = [
    errors.KeyConflictError("the key belongs to another request", key="row-17", job=JOB),
    errors.APIError("no", **_RESPONSE, host="api.modelmax.io"),
    errors.TransportError("it broke", maybe_sent=True, host="api.modelmax.io", job=JOB),
]
each_value = pytest.mark.parametrize(
    "value", VALUES + NEWER, ids=lambda value: type(value).__name__
)
each_error = pytest.mark.parametrize(
    "error", ERRORS + NEWER_ERRORS, ids=lambda error: type(error).__name__
)


def _public_classes(*modules: ModuleType) -> set[type]:
    found = (getattr(module, name) for module in modules for name in module.__all__)
    return {value for value in found if inspect.isclass(value)}


def test_every_public_value_and_error_is_here() -> None:
    public = _public_classes(modelmax_async, ledger, events) - {events.Event, Outcome}
    values = {kind for kind in public if attrs.has(kind)} | {Status, ledger.Key}
    failures = {kind for kind in public if issubclass(kind, ModelMaxError)}

    assert values == {type(value) for value in VALUES + NEWER + OTHERS}
    assert failures == {type(error) for error in ERRORS + NEWER_ERRORS}


@each_value
def test_plain_cattrs_reads_what_it_wrote(value: Any) -> None:
    converter = cattrs.Converter()
    again = converter.structure(converter.unstructure(value), type(value))

    assert value == again
    assert repr(value) == repr(again)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_copies_of_values_are_equal(again: Any) -> None:
    values = VALUES + NEWER + OTHERS

    assert values == [again(value) for value in values]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_names_public_modules_only(protocol: int) -> None:
    data = pickle.dumps((VALUES, NEWER, OTHERS, ERRORS, NEWER_ERRORS), protocol)

    assert (VALUES, NEWER, OTHERS, ERRORS, NEWER_ERRORS) == pickle.loads(data)
    assert b"modelmax_async._" not in data


def _same(expected: Iterable[ModelMaxError], actual: Iterable[ModelMaxError]) -> bool:
    """Compare all but the words, which later versions may improve."""
    return all(
        type(one) is type(other) and vars(one) == vars(other) and str(other)
        for one, other in zip(expected, actual, strict=True)
    )


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_pickle_loads_for_ever(path: Path) -> None:
    values, others, failures = pickle.loads(path.read_bytes())

    assert VALUES == values
    assert OTHERS == others
    assert _same(ERRORS, failures)


def test_every_protocol_has_a_stored_pickle() -> None:
    assert [f"values_protocol_{number}" for number in range(2, 6)] == [p.stem for p in STORED]


def _changed(value: Any, change: Any) -> Any:
    """Load a pickle of the value that another version has written."""
    constructor, (*arguments, fields) = value.__reduce__()
    return constructor(*arguments, change(dict(fields)))


@each_value
def test_field_that_a_pickle_lacks_gets_its_default(value: Any) -> None:
    fields = attrs.fields(type(value))
    for field in [f for f in fields if f.init and f.default is not attrs.NOTHING]:
        default = getattr(field.default, "factory", lambda field=field: field.default)()
        again = _changed(
            value, lambda fields, field=field: {k: fields[k] for k in fields if k != field.name}
        )

        assert attrs.evolve(value, **{field.name: default}) == again


@each_value
def test_field_that_this_version_does_not_know_is_ignored(value: Any) -> None:
    assert value == _changed(value, lambda fields: fields | {"added_later": 1})


def test_values_of_a_pickle_are_checked() -> None:
    with pytest.raises(ValueError, match="request id"):
        _changed(JOB, lambda fields: fields | {"request_id": ".."})


@each_error
def test_attribute_that_a_pickle_lacks_gets_its_default(error: ModelMaxError) -> None:
    defaults = {"outcomes": ()} if isinstance(error, errors.GatherError) else {"url": ""}
    again = _changed(
        error, lambda fields: {k: fields[k] for k in fields if k not in {"outcomes", "url"}}
    )

    assert vars(error) | {k: v for k, v in defaults.items() if k in vars(error)} == vars(again)


@each_error
def test_attribute_that_this_version_does_not_know_is_kept(error: ModelMaxError) -> None:
    again = _changed(error, lambda fields: fields | {"added_later": 1})

    assert vars(error) | {"added_later": 1} == vars(again)
    assert error.args == again.args

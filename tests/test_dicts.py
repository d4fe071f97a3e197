"""The dicts of the values: ready for JSON, read back equal, and strict about what they read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from strategies import JOB, PNG, value_or_error, wild_json
from test_public_values import BROKEN, ENTRY, ERRORS, NEWER, NEWER_ERRORS, RESULT, VALUES

from modelmax_async import (
    Failed,
    GatherError,
    Job,
    JobError,
    JobFailedError,
    LedgerEntry,
    LedgerUsage,
    ModelMaxError,
    Outcome,
    Result,
    Status,
    StatusReport,
    Succeeded,
    Usage,
    VideoParameters,
    VideoRequest,
    ledger,
)
from modelmax_async._models import Value

PATH = VideoParameters(image=Path("first.png"))
#: `test_public_values` has one of each public class, and checks that none is missing.
EVERY: list[Any] = [
    *(value for value in VALUES + NEWER if value != PATH),
    *(Failed(JOB, error) for error in ERRORS + NEWER_ERRORS),
    VideoRequest("A fox", parameters=PATH),
    VideoRequest("A fox", parameters=VideoParameters(image=PNG, extra={"resolution": "8k"})),
    VideoParameters(image=PNG, extra={"seed": 5}),
    StatusReport("req-1", "PAUSED", raw={"nested": [{"deep": None}]}),
]
every_value = pytest.mark.parametrize("value", EVERY, ids=lambda value: type(value).__name__)


def through_json(value: Value) -> Any:
    """Return the value that is read from the JSON of a value's dict."""
    return type(value).from_dict(json.loads(json.dumps(value.to_dict())))


@every_value
def test_value_is_read_back_from_json(value: Any) -> None:
    again = through_json(value)

    assert value == again
    assert repr(value) == repr(again)


@every_value
def test_dict_is_what_json_makes_of_it(value: Any) -> None:
    data = value.to_dict()

    assert data == json.loads(json.dumps(data))


@every_value
def test_key_that_this_version_does_not_know_is_ignored(value: Any) -> None:
    data = value.to_dict() | {"added_later": 1}
    known = through_json(value)
    if isinstance(value, VideoParameters):  # it is sent, as an undocumented parameter
        known = attrs.evolve(known, extra={**known.extra, "added_later": 1})

    assert known == type(value).from_dict(data)


@every_value
def test_missing_key_gets_its_default_or_is_named(value: Any) -> None:
    kind, data = type(value), value.to_dict()
    for field in attrs.fields(kind) if kind is not VideoParameters else ():
        less = {name: data[name] for name in data if name != field.name}
        if field.default is attrs.NOTHING:
            with pytest.raises(ValueError, match=f"^{kind.__name__}.{field.name} is missing$"):
                kind.from_dict(less)
        else:
            assert isinstance(kind.from_dict(less), kind)


def test_bytes_are_base64_text_and_paths_are_text() -> None:
    outcome = Succeeded(JOB, RESULT, paths=(Path("videos") / "fox.mp4",))

    assert "AHt9" == ENTRY.to_dict()["body"]
    assert [str(Path("videos/fox.mp4"))] == outcome.to_dict()["paths"]


def test_status_is_a_member_again_and_an_unknown_one_stays_text() -> None:
    report = StatusReport("req-1", Status.FAILED)
    error = JobError("odd", job=JOB, last_status=Status.FAILED)
    read = through_json(Failed(JOB, error)).error

    assert Status.FAILED is through_json(report).status
    assert Status.FAILED is read.last_status
    assert type(StatusReport.from_dict({"request_id": "a", "status": "ODD"}).status) is str


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (Job, None, "Job must be an object, got None"),
        (Job, {"model": 5, "request_id": "a"}, "Job.model must be a string, got 5"),
        (Job, {"model": "m", "request_id": ".."}, "Job: request id must be non-empty"),
        (Result, {"request_id": "a", "model": "m", "videos": 5}, "Result.videos: "),
        (
            Result,
            {"request_id": "a", "model": "m", "videos": [{"url": "/v", "index": "0"}]},
            "Result.videos[0].index must be an integer, got '0'",
        ),
        (
            Result,
            {"request_id": "a", "model": "m", "videos": [{"url": "/v", "index": 0.5}]},
            "Result.videos[0].index must be an integer, got 0.5",
        ),
        (
            Result,
            {"request_id": "a", "model": "m", "videos": [], "raw": []},
            "Result.raw must be an object, got []",
        ),
        (Usage, {"video_seconds": "8"}, "Usage.video_seconds must be a number, got '8'"),
        (Usage, {"video_has_audio": 1}, "Usage.video_has_audio must be true or false, got 1"),
        (
            StatusReport,
            {"request_id": "a", "status": 5},
            "StatusReport.status must be a string",
        ),
        (
            LedgerEntry,
            {"job": {"model": "m"}, "state": "known", "since": 1},
            "LedgerEntry.job.request_id is missing",
        ),
        (
            LedgerEntry,
            JOB.to_dict() | {"job": JOB.to_dict(), "state": "odd", "since": 1},
            "LedgerEntry.state must be 'known' or 'claimed'",
        ),
        (
            ledger.Store,
            {"job": JOB.to_dict(), "attempt": "a", "body": "%"},
            "Store.body must be base64 text, got '%'",
        ),
        (
            VideoRequest,
            {"prompt": "A fox", "parameters": {"duration_seconds": 9}},
            "VideoRequest.parameters: duration_seconds must be an integer from 1 to 8, got 9",
        ),
        (VideoParameters, {"extra": 5}, "VideoParameters must be an object"),
        (LedgerUsage, {"by_model": []}, "LedgerUsage.by_model must be an object, got []"),
        (
            LedgerUsage,
            {"by_model": {"veo-3": {"seconds": "8"}}},
            "LedgerUsage.by_model.seconds must be a number, got '8'",
        ),
        (Outcome, {"job": None, "error": 5}, "Outcome.error must be an object, got 5"),
        (
            Outcome,
            {"job": None, "error": {"type": "JobError", "text": "x"}},
            "Outcome.error.job is missing",
        ),
        (
            Outcome,
            {"job": None, "error": {"type": "APIError", "text": "x", "status_code": "5"}},
            "Outcome.error.status_code must be an integer, got '5'",
        ),
    ],
)
def test_unusable_dict_names_the_class_and_the_field(
    kind: type[Value], data: Any, message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the assertion below is stricter
        kind.from_dict(data)

    assert str(caught.value).startswith(message)


@pytest.mark.untraced
@pytest.mark.parametrize("kind", sorted({type(value) for value in EVERY}, key=str))
@settings(max_examples=15)
@given(data=wild_json)
def test_any_json_is_a_value_or_a_value_error(kind: type[Value], data: Any) -> None:
    read = value_or_error(lambda: kind.from_dict(data), ValueError)

    assert isinstance(read, kind | ValueError)


def test_text_is_never_read_as_a_path() -> None:
    """A dict may come from a browser; a text in it must not name a file of this machine."""
    assert {"image": "first.png"} == PATH.to_dict()
    with pytest.raises(ValueError, match="image must be base64 text"):
        VideoParameters.from_dict(PATH.to_dict())


def test_parameters_as_they_are_sent_are_read() -> None:
    sent = {"resolution": "4k", "seed": 5, "startImageUrl": None}
    parameters = VideoParameters(resolution="4k", extra={"seed": 5, "startImageUrl": None})

    assert sent == parameters.to_dict()
    assert parameters == VideoParameters.from_dict(sent)


class _OwnError(JobFailedError):
    """An error class of a user's own."""


@pytest.mark.parametrize(
    "error", [KeyError("a"), OSError(2, "gone"), type("E", (Exception,), {})]
)
def test_error_from_elsewhere_becomes_a_modelmax_error_with_its_text(error: Any) -> None:
    raised = error if isinstance(error, Exception) else error("x")
    read = through_json(Failed(JOB, raised)).error

    assert type(read) is ModelMaxError
    assert f"{type(raised).__name__}: {raised}" == str(read)


def test_error_of_an_unknown_class_becomes_the_nearest_known_one() -> None:
    read = through_json(Failed(JOB, _OwnError("nsfw", job=JOB))).error

    assert JobFailedError("nsfw", job=JOB) == read


@pytest.mark.parametrize("name", ["SystemExit", "os.system", "fresh", "Exception", "Job"])
def test_dict_does_not_choose_a_class_from_elsewhere(name: str) -> None:
    error = {"type": name, "bases": [name, "object"], "text": "x"}

    assert ModelMaxError("x") == Outcome.from_dict({"job": None, "error": error}).error


def test_error_without_arguments_has_no_text() -> None:
    error = ModelMaxError("x")
    error.args = ()

    assert "" == str(through_json(Failed(None, error)).error)


def test_group_is_an_exception_group_again() -> None:
    group = GatherError("1 failed", [BROKEN], outcomes=[Succeeded(JOB, RESULT)])
    read = through_json(Failed(None, group)).error

    assert (BROKEN,) == read.exceptions
    assert (Succeeded(JOB, RESULT),) == read.outcomes
    assert str(group) == str(read)


def test_notes_are_kept() -> None:
    error = ModelMaxError("x")
    error.add_note("seen by a test")

    assert ["seen by a test"] == through_json(Failed(None, error)).error.__notes__

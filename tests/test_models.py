"""The public values: frozen, slotted, and fit to be stored or sent anywhere."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from strategies import HOSTILE_IDS, JOB, PNG, PNG_TEXT, jobs, wild_text

from modelmax_async import (
    Failed,
    Job,
    LedgerEntry,
    Outcome,
    Result,
    Status,
    StatusReport,
    Succeeded,
    Usage,
    Video,
    VideoParameters,
)
from modelmax_async._errors import JobFailedError

RESULT = Result(
    "req-1", "veo-3", (Video("/v1/0", 0),), Usage(8, "720p", video_has_audio=True), {"x": [1]}
)
VALUES = [
    JOB,
    StatusReport("req-1", Status.FAILED, "no", {"status": "FAILED"}),
    StatusReport("req-1", "PAUSED"),
    RESULT,
    RESULT.videos[0],
    RESULT.usage,
    Succeeded(JOB, RESULT),
    Failed(JOB, JobFailedError("no", job=JOB)),
    LedgerEntry(job=JOB, state="stored", since=1.0, attempt="a", body=b"{}"),
    VideoParameters(resolution="4k", extra={"startImageUrl": "https://x/y.png"}),
]
ids = [f"{number}-{type(value).__name__}" for number, value in enumerate(VALUES)]


@pytest.mark.parametrize("value", VALUES, ids=ids)
def test_values_cannot_be_changed(value: Any) -> None:
    name = attrs.fields(type(value))[0].name

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, name, "other")
    with pytest.raises(AttributeError):
        value.surprise = 1


@pytest.mark.parametrize("value", VALUES, ids=ids)
def test_values_have_no_dict(value: Any) -> None:
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", VALUES, ids=ids)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_values_are_equal(value: Any, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(value, protocol))

    assert value == again
    assert hash(value) == hash(again)
    assert repr(value) == repr(again)


@pytest.mark.parametrize("value", VALUES, ids=ids)
def test_copied_values_are_equal(value: Any) -> None:
    assert value == copy.deepcopy(value)
    assert value == copy.copy(value)


def test_outcome_is_one_of_two_classes() -> None:
    error = JobFailedError("no", job=JOB)
    succeeded, failed = Succeeded(JOB, RESULT), Failed(JOB, error)

    assert (RESULT, None) == (succeeded.result, succeeded.error)
    assert (None, error) == (failed.result, failed.error)
    assert ("job", "result", "request", "paths") == Succeeded.__match_args__
    assert ("job", "error", "request") == Failed.__match_args__
    assert [succeeded, failed] == [
        Outcome.from_dict(outcome.to_dict()) for outcome in (succeeded, failed)
    ]
    base: Any = Outcome
    with pytest.raises(TypeError, match=r"make a Succeeded\(job, result\) or a Failed"):
        base(JOB, RESULT, None, None, ())


def test_values_with_different_fields_differ() -> None:
    assert attrs.evolve(JOB, request_id="req-2") != JOB
    assert attrs.evolve(RESULT, raw={}) != RESULT


def test_default_values_are_not_shared() -> None:
    first, second = StatusReport("a", "X"), StatusReport("b", "X")
    one, two = Result("a", "m", ()), Result("b", "m", ())

    assert {} == first.raw == second.raw
    assert first.raw is not second.raw
    assert one.raw is not two.raw


@given(jobs)
def test_jobs_round_trip_through_a_dict_and_json(job: Job) -> None:
    data = json.loads(json.dumps(job.to_dict()))

    assert job == Job.from_dict(data)
    assert {"model", "request_id", "status_url", "response_url", "submitted_at", "key"} == set(
        data
    )


@pytest.mark.parametrize("time", [-1, 1e12, 2**63, float("nan"), "now", True])
def test_submit_time_that_is_not_in_seconds_is_refused(time: Any) -> None:
    with pytest.raises(ValueError, match="submitted_at must be None or a number of seconds"):
        Job("veo-3", "reef", submitted_at=time)


def test_job_of_a_dict_ignores_unknown_keys() -> None:
    data = {"model": "veo-3", "request_id": "req-1", "added_later": 1}

    assert Job("veo-3", "req-1") == Job.from_dict(data)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"model": "veo-3"},
        {"model": "veo-3", "request_id": ""},
        {"model": None, "request_id": "a"},
        {"model": "veo-3", "request_id": "a", "status_url": None},
        [("model", "veo-3")],
        None,
    ],
)
def test_job_of_an_invalid_dict_is_a_value_error(data: Any) -> None:
    with pytest.raises(ValueError, match=r"^Job(\.| must|:)"):
        Job.from_dict(data)


@pytest.mark.parametrize(("value", "word"), HOSTILE_IDS)
def test_job_with_a_hostile_id_or_model_is_refused(value: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Job("veo-3", value)
    with pytest.raises(ValueError, match=word):
        Job(value, "req-1")


@pytest.mark.parametrize("path", ["/a\0", "/\ud800", "/\udfff/b", None])
@pytest.mark.parametrize("name", ["status_url", "response_url"])
def test_job_with_a_path_that_no_database_holds_is_refused(name: str, path: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a string without NUL characters"):
        Job("veo-3", "reef", **{name: path})


@pytest.mark.parametrize("word", ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED"])
def test_documented_status_is_a_member_and_a_string(word: str) -> None:
    status = Status.of(word)

    assert isinstance(status, Status)
    assert word == status == f"{status}" == json.loads(json.dumps(status))


@given(wild_text)
def test_unknown_status_stays_a_plain_string(word: str) -> None:
    status = Status.of(word)

    assert word == status
    assert isinstance(status, Status) is (word in list(Status))


@pytest.mark.parametrize(
    ("word", "terminal"),
    [
        ("IN_QUEUE", False),
        ("IN_PROGRESS", False),
        ("COMPLETED", True),
        ("FAILED", True),
        ("completed", False),
        ("EXPIRED", False),
        ("", False),
    ],
)
def test_only_completed_and_failed_are_terminal(word: str, *, terminal: bool) -> None:
    assert terminal is StatusReport("req-1", Status.of(word)).terminal


def test_paid_bytes_and_images_stay_out_of_reprs() -> None:
    entry = LedgerEntry(job=JOB, state="stored", since=1.0, body=b"PAID-BYTES")
    report = StatusReport("req-1", "X", raw={"secret": "RAW"})

    assert "PAID-BYTES" not in repr(entry)
    assert "RAW" not in repr(report)
    assert PNG_TEXT[:8] not in repr(VideoParameters(image=PNG))


def test_parameters_that_are_not_set_are_not_sent() -> None:
    assert {} == VideoParameters().to_dict()


def test_parameters_are_sent_in_the_documented_spelling() -> None:
    parameters = VideoParameters(
        aspect_ratio="9:16",
        resolution="1080p",
        duration_seconds=8,
        generate_audio=False,
        sample_count=4,
        negative_prompt="",
        image=PNG_TEXT,
    )

    assert {
        "aspect_ratio": "9:16",
        "resolution": "1080p",
        "duration_seconds": 8,
        "generate_audio": False,
        "sample_count": 4,
        "negative_prompt": "",
        "image": PNG_TEXT,
    } == parameters.to_dict()


def test_extra_keys_are_sent_unchanged_and_override() -> None:
    nested = {"seed": [1, {"deep": None}]}
    extra = {"startImageUrl": "https://x", "durationSeconds": 6, "duration_seconds": 12}
    parameters = VideoParameters(duration_seconds=8, extra=extra | nested)

    assert extra | nested == parameters.to_dict()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aspect_ratio", "4:3"),
        ("aspect_ratio", 16),
        ("resolution", "8k"),
        ("resolution", "1080P"),
        ("duration_seconds", 9),
        ("duration_seconds", 0),
        ("duration_seconds", -1),
        ("duration_seconds", True),
        ("duration_seconds", 7.5),
        ("duration_seconds", "8"),
        ("generate_audio", 1),
        ("generate_audio", "true"),
        ("sample_count", 0),
        ("sample_count", 5),
        ("sample_count", True),
        ("negative_prompt", 5),
        ("image", 5),
        ("image", b"ABC"),
        ("image", "ABC"),
        ("extra", None),
        ("extra", [("a", 1)]),
    ],
)
def test_parameter_out_of_its_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        VideoParameters(**{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("aspect_ratio", ["16:9", "9:16"]),
        ("resolution", ["720p", "1080p", "4k"]),
        ("duration_seconds", list(range(1, 9))),
        ("generate_audio", [True, False]),
        ("sample_count", [1, 2, 3, 4]),
        ("negative_prompt", ["", "rain"]),
    ],
)
def test_every_documented_value_is_accepted(name: str, values: list[Any]) -> None:
    for value in values:
        assert {name: value} == VideoParameters(**{name: value}).to_dict()

"""Every request and response of the API: bytes in, a value or one of our errors out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    AWKWARD_IDS,
    HOSTILE_IDS,
    JOB,
    NOW,
    PNG,
    PNG_TEXT,
    completed,
    envelope,
    near_bodies,
    replies,
    reply,
    value_or_error,
)

from modelmax_async import (
    APIError,
    InvalidResponseError,
    Job,
    Result,
    Status,
    StatusReport,
    Usage,
    Video,
    VideoParameters,
)
from modelmax_async._api.endpoints import (
    build_submit,
    parse_result,
    parse_status,
    parse_submit,
    result_status,
)
from modelmax_async._api.messages import Reply
from modelmax_async._api.paths import make_job

OURS = (APIError, InvalidResponseError)


def _accepted(**fields: Any) -> Reply:
    return reply(202, {"request_id": "req-1", "status": "IN_QUEUE"} | fields)


def test_submit_has_the_documented_body() -> None:
    parameters = VideoParameters(resolution="1080p", extra={"seed": 5})
    call = build_submit("veo-3", "A réef\n😀", parameters)

    assert call.body is not None

    assert ("POST", "/v1/queue/veo-3", None) == (call.method, call.path, call.job)
    assert (
        {
            "prompt": "A réef\n😀",
            "parameters": {"resolution": "1080p", "seed": 5},
        }
    ) == json.loads(call.body)


@pytest.mark.parametrize("parameters", [None, VideoParameters()])
def test_submit_without_parameters_omits_them(parameters: VideoParameters | None) -> None:
    assert b'{"prompt": "reef"}' == build_submit("veo-3", "reef", parameters).body


def test_image_of_a_submit_is_base64_text() -> None:
    body = build_submit("veo-3", "reef", VideoParameters(image=PNG)).body

    assert body is not None
    assert {"image": PNG_TEXT} == json.loads(body)["parameters"]


@pytest.mark.parametrize("extra", [{}, {"image": PNG_TEXT}])
def test_path_of_an_image_is_never_sent(extra: dict[str, Any]) -> None:
    parameters = VideoParameters(image=Path("first.png"), extra=extra)

    with pytest.raises(ValueError, match="image must be read before the request is built"):
        build_submit("veo-3", "reef", parameters)


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(200_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "extra",
    [{"a": float("nan")}, {"a": object()}, {"a": b"x"}, {("a", "b"): 1}, {"a": _deep()}],
    ids=["nan", "object", "bytes", "tuple key", "deep"],
)
def test_parameters_that_cannot_be_json_are_a_value_error(extra: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        build_submit("veo-3", "reef", VideoParameters(extra=extra))


def test_parameters_that_contain_themselves_are_a_value_error() -> None:
    extra: dict[str, Any] = {}
    extra["self"] = extra
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        build_submit("veo-3", "reef", VideoParameters(extra=extra))


@pytest.mark.parametrize("value", AWKWARD_IDS)
def test_submit_response_may_have_an_awkward_id(value: str) -> None:
    job = parse_submit(_accepted(request_id=value), "veo-3", now=NOW)

    assert attrs.evolve(make_job("veo-3", value), submitted_at=NOW) == job


@pytest.mark.parametrize(
    "value", [value for value, _ in HOSTILE_IDS if not isinstance(value, bytes)]
)
def test_submit_response_with_a_hostile_id_is_invalid(value: Any) -> None:
    response = _accepted(request_id=value)
    with pytest.raises(
        InvalidResponseError, match="the submit response could not be understood"
    ) as caught:
        parse_submit(response, "veo-3", now=NOW)

    assert response.body == caught.value.body
    assert str(caught.value).encode()


@pytest.mark.parametrize("body", [{}, [], None, b"<html>", b""])
def test_submit_response_without_an_id_is_invalid(body: Any) -> None:
    with pytest.raises(InvalidResponseError):
        parse_submit(reply(202, body), "veo-3", now=NOW)


def test_refused_submit_raises_the_servers_error() -> None:
    with pytest.raises(APIError, match="HTTP 402 insufficient_balance: empty"):
        parse_submit(reply(402, envelope("insufficient_balance", "empty")), "veo-3", now=NOW)


@pytest.mark.parametrize("word", [*Status, "PAUSED", "", "completed"])
def test_status_report_has_every_field_of_the_response(word: str) -> None:
    body = {"request_id": "req-1", "status": word, "progress": 0.5}
    report = parse_status(reply(200, body), JOB, now=NOW)

    assert ("req-1", word, None, body) == attrs.astuple(report)
    assert isinstance(report.status, Status) is (word in list(Status))


@pytest.mark.parametrize(
    ("error", "expected"),
    [("nsfw", "nsfw"), ("", ""), ({"code": 1}, '{"code": 1}'), (None, None)],
)
def test_status_report_has_the_servers_error(error: Any, expected: str | None) -> None:
    report = parse_status(reply(200, {"status": "FAILED", "error": error}), JOB, now=NOW)

    assert expected == report.error


@pytest.mark.parametrize("body", [{}, {"status": None}, {"status": 5}, [], b"<html>"])
def test_response_without_a_status_is_invalid(body: Any) -> None:
    response = reply(200, body)
    with pytest.raises(InvalidResponseError, match="req-1") as caught:
        parse_status(response, JOB, now=NOW)

    assert (response.body, JOB) == (caught.value.body, caught.value.job)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 502])
def test_refused_status_raises_the_servers_error_with_the_job(status: int) -> None:
    with pytest.raises(APIError, match=f"HTTP {status} t for job req-1: m") as caught:
        parse_status(reply(status, envelope("t", "m")), JOB, now=NOW)

    assert JOB == caught.value.job


@given(replies)
def test_any_reply_is_a_job_or_one_of_our_errors(response: Reply) -> None:
    found = value_or_error(lambda: parse_submit(response, "veo-3", now=NOW), *OURS)
    shown = "".join(map(str, attrs.astuple(found))) if isinstance(found, Job) else str(found)

    assert shown.encode()


@given(replies)
def test_any_reply_is_a_status_or_one_of_our_errors(response: Reply) -> None:
    found = value_or_error(lambda: parse_status(response, JOB, now=NOW), *OURS)
    report = isinstance(found, StatusReport)
    shown = f"{found.status}{found.error}" if isinstance(found, StatusReport) else str(found)

    assert shown.encode()
    assert report or response.status >= 300 or isinstance(found, InvalidResponseError)


@given(replies)
def test_status_of_any_result_response_is_read_without_raising(response: Reply) -> None:
    word, error = result_status(response)

    assert word is None or isinstance(word, str)
    assert error == error.encode().decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": "IN_PROGRESS"}, ("IN_PROGRESS", "")),
        ({"status": "FAILED", "error": "nsfw"}, ("FAILED", "nsfw")),
        ({"status": "FAILED", "error": [1]}, ("FAILED", "[1]")),
        ({"status": "PAUSED"}, ("PAUSED", "")),
        ({"status": 5}, (None, "")),
        ({}, (None, "")),
        (b"<html>", (None, "")),
        (b"[" * 100_000, (None, "")),
    ],
)
def test_status_of_a_result_response_is_read(
    body: Any, expected: tuple[str | None, str]
) -> None:
    assert expected == result_status(reply(200, body))


def test_result_has_every_field_of_the_response() -> None:
    content = completed("/v1/c/0", "https://cdn.example/1.mp4", request_cost=3)
    result = parse_result(reply(200, content).body, JOB)

    assert (
        Result(
            "req-1",
            "veo-3",
            (Video("/v1/c/0", 0), Video("https://cdn.example/1.mp4", 1)),
            Usage(8, "720p", video_has_audio=True),
            content,
        )
        == result
    )


@pytest.mark.parametrize("usage", [None, 5, [], {}, {"video_seconds": "8"}])
def test_invalid_usage_does_not_invalidate_the_result(usage: Any) -> None:
    result = parse_result(reply(200, completed(usage=usage)).body, JOB)

    assert Usage() == result.usage
    assert 1 == len(result.videos)


@pytest.mark.parametrize(
    ("model", "expected"), [("veo-3.1", "veo-3.1"), (None, "veo-3"), (5, "veo-3")]
)
def test_model_is_of_the_response_or_else_of_the_job(model: Any, expected: str) -> None:
    assert expected == parse_result(reply(200, completed(model=model)).body, JOB).model


def test_unpaired_surrogates_in_a_result_can_be_printed() -> None:
    content = completed("/v1/\ud8000", model="veo\udfff", usage={"video_resolution": "\ud800"})
    result = parse_result(reply(200, content).body, JOB)

    assert ("veo?", "/v1/?0", "?") == (
        result.model,
        result.videos[0].url,
        result.usage.video_resolution,
    )
    assert content == result.raw


@pytest.mark.parametrize(
    "content",
    [
        completed() | {"data": []},
        completed() | {"data": None},
        completed() | {"data": "abc"},
        completed() | {"data": {"url": "/0"}},
        completed() | {"data": [{}]},
        completed() | {"data": [None]},
        completed() | {"data": [{"url": 5}]},
        completed() | {"data": [{"url": "/0"}, {"url": None}]},
        completed() | {"status": "IN_PROGRESS"},
        completed() | {"status": "PAUSED"},
        {"data": [{"url": "/0"}]},
        [],
        b"",
        b"<html>",
        b"\xff\x00",
        b"[" * 100_000,
        b'{"status": "COMPLETED", "n": ' + b"9" * 5000 + b"}",
    ],
)
def test_invalid_paid_response_keeps_every_byte(content: Any) -> None:
    body = reply(200, content).body
    with pytest.raises(InvalidResponseError) as caught:
        parse_result(body, JOB)
    text = str(caught.value)

    assert body == caught.value.body
    assert JOB is caught.value.job
    assert "the paid response for job req-1" in text
    assert ".body" in text
    assert "result(job, accept_second_charge=True)" in text
    assert len(text) < 700


def test_large_invalid_paid_response_is_not_truncated() -> None:
    body = b"x" * 1_000_000
    with pytest.raises(InvalidResponseError) as caught:
        parse_result(body, JOB)

    assert body == caught.value.body


@given(st.binary(max_size=100) | near_bodies.map(lambda value: json.dumps(value).encode()))
def test_any_paid_response_is_a_result_or_an_error_with_its_bytes(body: bytes) -> None:
    found = value_or_error(lambda: parse_result(body, JOB), InvalidResponseError)
    if isinstance(found, InvalidResponseError):
        assert body == found.body
        assert str(found).encode()
        return

    assert found.videos
    assert "".join([found.model, *(video.url for video in found.videos)]).encode()


@given(near_bodies)
def test_equal_bytes_give_equal_videos(content: Any) -> None:
    """Every waiter of a job parses the stored bytes itself."""
    body = json.dumps(completed() | {"usage": content.get("usage")}).encode()
    one, two = parse_result(body, JOB), parse_result(body, JOB)

    assert (one.videos, one.usage, one.model) == (two.videos, two.usage, two.model)
    assert hash(one) == hash(two)

"""Every URL and body of the API: bytes in, a value or one of our errors out."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    AWKWARD_IDS,
    HOSTILE_IDS,
    JOB,
    NOW,
    completed,
    envelope,
    jobs,
    near_answers,
    replies,
    reply,
    segments,
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
    build_result,
    build_status,
    build_submit,
    check_job,
    make_job,
    parse_result,
    parse_status,
    parse_submit,
    result_status,
)
from modelmax_async._api.messages import Reply

OURS = (APIError, InvalidResponseError)
STATUS_PATH = "/v1/queue/veo-3/requests/req-1/status"
RESULT_PATH = "/v1/queue/veo-3/requests/req-1"

#: Addresses that are no path on the base URL's origin.
ELSEWHERE = [
    "",
    "https://evil.example/v1/status",
    "//evil.example/status",
    "@evil.example/status",
    ".evil.example/status",
    ":8000/status",
    "status",
    "\\evil.example/status",
    "/\\evil.example/status",
    "/v1/queue/../../admin/status",
    "/v1/./status",
    "/v1/a b/status",
    "/v1/é/status",
    "/v1/\x00/status",
    "/v1/\n/status",
    "/v1/\ud800/status",
    "/v1#x/status",
]

#: Paths that are one, and that are not free to poll.
NOT_FREE = [
    RESULT_PATH,
    "/v1/queue/veo-3/requests/other",
    "/v1/queue/veo-3/requests/status",
    "/v1/queue/veo-3/requests/status?x=/status",
    "/v1/queue/veo-3/requests/req-1?next=/status",
    "/v1/queue/veo-3/requests/req-1%2Fstatus",
    "/v1/queue/veo-3/requests/req-1/status/",
    "/v1/queue/veo-3/requests/req-1/STATUS",
    "/",
]


def test_paths_are_those_documented() -> None:
    assert Job("veo-3", "req-1", STATUS_PATH, RESULT_PATH) == make_job("veo-3", "req-1")
    assert attrs.astuple(build_status(JOB), recurse=False) == ("GET", STATUS_PATH, None, JOB)
    assert attrs.astuple(build_result(JOB), recurse=False) == ("GET", RESULT_PATH, None, JOB)


@pytest.mark.parametrize("value", AWKWARD_IDS)
def test_awkward_ids_are_one_intact_segment(value: str) -> None:
    job = make_job(value, value)
    for path, tail in ((job.status_url, ["status"]), (job.response_url, [])):
        parts = urlsplit(f"https://h{path}")
        _, v1, queue, model, requests, request_id, *rest = parts.path.split("/")

        assert ("v1", "queue", "requests", tail) == (v1, queue, requests, rest)
        assert value == unquote(model) == unquote(request_id)
        assert path.isascii()
        assert "" == parts.query == parts.fragment


@given(segments, segments)
def test_any_id_reaches_the_server_intact(model: str, request_id: str) -> None:
    job = make_job(model, request_id)
    parts = job.response_url.split("/")

    assert [*parts[:3], parts[4]] == ["", "v1", "queue", "requests"]
    assert [model, request_id] == [unquote(parts[3]), unquote(parts[5])]
    assert job.status_url == build_status(job).path == f"{job.response_url}/status"
    assert job.response_url == build_result(job).path
    assert unquote(build_submit(model, "p", None).path) == f"/v1/queue/{model}"


@pytest.mark.parametrize(("value", "word"), HOSTILE_IDS)
def test_hostile_ids_never_become_a_path(value: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make_job("veo-3", value)
    with pytest.raises(ValueError, match=word):
        make_job(value, "req-1")


@pytest.mark.parametrize("path", [*ELSEWHERE, *NOT_FREE])
def test_status_is_polled_at_a_free_path_of_this_origin_only(path: str) -> None:
    job = attrs.evolve(JOB, status_url=path)

    assert build_status(job).path == STATUS_PATH
    assert job is build_status(job).job


def test_status_is_never_polled_at_the_path_of_the_result() -> None:
    """Also where the server's own path of the result looks like one of a status."""
    job = attrs.evolve(JOB, status_url="/jobs/1/status", response_url="/jobs/1/status")

    assert build_status(job).path == STATUS_PATH


@pytest.mark.parametrize(
    "path",
    ["/v2/jobs/1/status", "/v1/queue/m/requests/a%2Fb/status", "/v1/status?token=a/../b"],
)
def test_path_of_the_servers_own_is_used_as_it_is(path: str) -> None:
    assert path == build_status(attrs.evolve(JOB, status_url=path)).path


@pytest.mark.parametrize("path", ELSEWHERE)
def test_result_is_fetched_from_this_origin_only(path: str) -> None:
    assert build_result(attrs.evolve(JOB, response_url=path)).path == RESULT_PATH


def test_result_is_fetched_where_the_server_says() -> None:
    job = attrs.evolve(JOB, response_url="/v2/jobs/1?full=1")

    assert build_result(job).path == "/v2/jobs/1?full=1"


@given(jobs)
def test_any_stored_job_is_called_on_this_origin(job: Job) -> None:
    free, billed = build_status(job).path, build_result(job).path

    assert urlsplit(f"https://api.example{free}").netloc == "api.example"
    assert urlsplit(f"https://api.example{billed}").netloc == "api.example"
    assert free != billed
    assert urlsplit(free).path.endswith("/status")


def test_submit_has_the_documented_body() -> None:
    parameters = VideoParameters(resolution="1080p", extra={"seed": 5})
    call = build_submit("veo-3", "A réef\n😀", parameters)
    assert call.body is not None

    assert (call.method, call.path, call.job) == ("POST", "/v1/queue/veo-3", None)
    assert (json.loads(call.body)) == {
        "prompt": "A réef\n😀",
        "parameters": {"resolution": "1080p", "seed": 5},
    }


@pytest.mark.parametrize("parameters", [None, VideoParameters()])
def test_submit_without_parameters_sends_none(parameters: VideoParameters | None) -> None:
    assert build_submit("veo-3", "reef", parameters).body == b'{"prompt": "reef"}'


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
def test_parameters_that_are_no_json_are_a_value_error(extra: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        build_submit("veo-3", "reef", VideoParameters(extra=extra))


def test_parameters_that_hold_themselves_are_a_value_error() -> None:
    extra: dict[str, Any] = {}
    extra["self"] = extra
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        build_submit("veo-3", "reef", VideoParameters(extra=extra))


def _accepted(**fields: Any) -> Reply:
    return reply(202, {"request_id": "req-1", "status": "IN_QUEUE"} | fields)


def test_submit_answer_gives_the_job_as_the_server_names_it() -> None:
    answer = _accepted(status_url="/s/1/status", response_url="/r/1", queue_position=3)

    assert Job("veo-3", "req-1", "/s/1/status", "/r/1") == parse_submit(
        answer, "veo-3", now=NOW
    )


@pytest.mark.parametrize("fields", [{}, {"status_url": None, "response_url": 5}])
def test_submit_answer_without_urls_gives_the_documented_ones(fields: dict[str, Any]) -> None:
    assert parse_submit(_accepted(**fields), "veo-3", now=NOW) == JOB


@pytest.mark.parametrize("path", ELSEWHERE)
def test_urls_of_another_origin_are_not_kept(path: str) -> None:
    answer = _accepted(status_url=path, response_url=path)

    assert parse_submit(answer, "veo-3", now=NOW) == JOB


@pytest.mark.parametrize("value", AWKWARD_IDS)
def test_submit_answer_may_have_an_awkward_id(value: str) -> None:
    job = parse_submit(_accepted(request_id=value), "veo-3", now=NOW)

    assert make_job("veo-3", value) == job


@pytest.mark.parametrize(
    "value", [value for value, _ in HOSTILE_IDS if not isinstance(value, bytes)]
)
def test_submit_answer_with_a_hostile_id_is_not_understood(value: Any) -> None:
    answer = _accepted(request_id=value)
    with pytest.raises(InvalidResponseError, match="not a submit answer") as caught:
        parse_submit(answer, "veo-3", now=NOW)

    assert answer.body == caught.value.body
    assert str(caught.value).encode()


@pytest.mark.parametrize("body", [{}, [], None, b"<html>", b""])
def test_submit_answer_without_an_id_is_not_understood(body: Any) -> None:
    with pytest.raises(InvalidResponseError):
        parse_submit(reply(202, body), "veo-3", now=NOW)


def test_refused_submit_raises_the_servers_error() -> None:
    with pytest.raises(APIError, match="HTTP 402 insufficient_balance: empty"):
        parse_submit(reply(402, envelope("insufficient_balance", "empty")), "veo-3", now=NOW)


@pytest.mark.parametrize("word", [*Status, "PAUSED", "", "completed"])
def test_status_is_reported_with_all_that_came(word: str) -> None:
    body = {"request_id": "req-1", "status": word, "progress": 0.5}
    report = parse_status(reply(200, body), JOB, now=NOW)

    assert ("req-1", word, None, body) == attrs.astuple(report)
    assert isinstance(report.status, Status) is (word in list(Status))


@pytest.mark.parametrize(
    ("error", "expected"),
    [("nsfw", "nsfw"), ("", ""), ({"code": 1}, '{"code": 1}'), (None, None)],
)
def test_status_carries_the_servers_error(error: Any, expected: str | None) -> None:
    report = parse_status(reply(200, {"status": "FAILED", "error": error}), JOB, now=NOW)

    assert expected == report.error


@pytest.mark.parametrize("body", [{}, {"status": None}, {"status": 5}, [], b"<html>"])
def test_answer_without_a_status_is_not_understood(body: Any) -> None:
    answer = reply(200, body)
    with pytest.raises(InvalidResponseError, match="req-1") as caught:
        parse_status(answer, JOB, now=NOW)

    assert (answer.body, JOB) == (caught.value.body, caught.value.job)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 502])
def test_refused_status_raises_the_servers_error_with_the_job(status: int) -> None:
    with pytest.raises(APIError, match=f"HTTP {status} t for job req-1: m") as caught:
        parse_status(reply(status, envelope("t", "m")), JOB, now=NOW)

    assert caught.value.job == JOB


@given(replies)
def test_any_reply_is_a_job_or_one_of_our_errors(answer: Reply) -> None:
    found = value_or_error(lambda: parse_submit(answer, "veo-3", now=NOW), *OURS)
    shown = "".join(attrs.astuple(found)) if isinstance(found, Job) else str(found)

    assert shown.encode()


@given(replies)
def test_any_reply_is_a_status_or_one_of_our_errors(answer: Reply) -> None:
    found = value_or_error(lambda: parse_status(answer, JOB, now=NOW), *OURS)
    report = isinstance(found, StatusReport)
    shown = f"{found.status}{found.error}" if isinstance(found, StatusReport) else str(found)

    assert shown.encode()
    assert report or answer.status >= 300 or isinstance(found, InvalidResponseError)


@given(replies)
def test_status_of_any_paid_answer_is_read_without_raising(answer: Reply) -> None:
    word, error = result_status(answer)

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
def test_word_of_a_paid_answer_is_read(body: Any, expected: tuple[str | None, str]) -> None:
    assert expected == result_status(reply(200, body))


def test_paid_result_has_all_that_came() -> None:
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
def test_odd_usage_does_not_cost_the_result(usage: Any) -> None:
    result = parse_result(reply(200, completed(usage=usage)).body, JOB)

    assert Usage() == result.usage
    assert len(result.videos) == 1


@pytest.mark.parametrize(
    ("model", "expected"), [("veo-3.1", "veo-3.1"), (None, "veo-3"), (5, "veo-3")]
)
def test_model_of_the_answer_or_else_of_the_job(model: Any, expected: str) -> None:
    assert expected == parse_result(reply(200, completed(model=model)).body, JOB).model


def test_half_pairs_in_a_paid_answer_can_be_printed() -> None:
    content = completed("/v1/\ud8000", model="veo\udfff", usage={"video_resolution": "\ud800"})
    result = parse_result(reply(200, content).body, JOB)

    assert (
        result.model,
        result.videos[0].url,
        result.usage.video_resolution,
    ) == ("veo?", "/v1/?0", "?")
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
def test_paid_answer_that_is_not_understood_keeps_every_byte(content: Any) -> None:
    body = reply(200, content).body
    with pytest.raises(InvalidResponseError) as caught:
        parse_result(body, JOB)
    text = str(caught.value)

    assert body == caught.value.body
    assert JOB is caught.value.job
    assert "the paid answer for job req-1" in text
    assert ".body" in text
    assert "result(job, accept_second_charge=True)" in text
    assert len(text) < 700


def test_large_paid_answer_that_is_not_understood_is_not_cut() -> None:
    body = b"x" * 1_000_000
    with pytest.raises(InvalidResponseError) as caught:
        parse_result(body, JOB)

    assert body == caught.value.body


@given(st.binary(max_size=100) | near_answers.map(lambda value: json.dumps(value).encode()))
def test_any_paid_answer_is_a_result_or_its_bytes(body: bytes) -> None:
    found = value_or_error(lambda: parse_result(body, JOB), InvalidResponseError)
    if isinstance(found, InvalidResponseError):
        assert body == found.body
        assert str(found).encode()
        return

    assert found.videos
    assert "".join([found.model, *(video.url for video in found.videos)]).encode()


@given(near_answers)
def test_equal_bytes_give_equal_videos(content: Any) -> None:
    """Every waiter of a job reads the stored bytes for itself."""
    body = json.dumps(completed() | {"usage": content.get("usage")}).encode()
    one, two = parse_result(body, JOB), parse_result(body, JOB)

    assert (one.videos, one.usage, one.model) == (two.videos, two.usage, two.model)
    assert hash(one) == hash(two)


OWN = "/v1/queue/veo-3/requests/req-1"
TREACHEROUS: dict[str, Job] = {
    "result of another job": Job("veo-3", "req-1", response_url="/v1/queue/veo-3/requests/x"),
    "result behind a content path": Job("veo-3", "req-1", response_url=f"{OWN}/content/0"),
    "status as the result": Job("veo-3", "req-1", response_url=f"{OWN}/status"),
    "status of another job": Job("veo-3", "req-1", "/v1/queue/veo-3/requests/x/status"),
    "empty segment": Job("veo-3", "req-1", "/v1/queue/veo-3/requests//status"),
    "empty segment before": Job("veo-3", "req-1", "/v1//queue/veo-3/requests/req-1/status"),
    "encoded dot": Job("veo-3", "req-1", "/v1/queue/veo-3/requests/%2e/status"),
    "encoded dots": Job("veo-3", "req-1", "/v1/queue/veo-3/requests/x/%2e%2e/status"),
    "twice encoded dots": Job("veo-3", "req-1", "/s/%252e%252e/requests/req-1/status"),
    "encoded dots elsewhere": Job("veo-3", "req-1", "/s/%2e%2e/status"),
    "encoded segment": Job("veo-3", "req-1", "/v1/queue/veo-3/%72equests/x/status"),
    "too long a result": Job("veo-3", "req-1", response_url=f"{OWN}?{'x' * 70_000}"),
    "too long a status": Job("veo-3", "req-1", f"{OWN}/status?{'x' * 70_000}"),
    "too long together": make_job("😀" * 4096, "😀" * 4096),
}


@pytest.mark.parametrize("job", TREACHEROUS.values(), ids=TREACHEROUS.keys())
def test_job_whose_paths_do_not_name_it_is_refused(job: Job) -> None:
    with pytest.raises(ValueError, match=r"(must be the path of that job|at most)"):
        check_job(job)


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        Job("veo-3", "req-1"),
        make_job("a/requests/b", "a/b+c=="),
        Job("veo-3", "a/b==", "/gw/v1/queue/veo-3/requests/a/b==/status"),
        Job("veo-3", "req-1", f"{OWN}/status?sig=1", f"{OWN}?sig=1"),
        Job("veo-3", "req-1", "/s/1/status", "/r/1"),
        Job("veo-3", "req-1", "https://elsewhere.example/requests/x/status"),
    ],
)
def test_job_whose_paths_name_it_or_are_not_used_passes(job: Job) -> None:
    assert job == check_job(job)


@pytest.mark.parametrize("value", ["a/../b", "../b", "a/.", "./a"])
def test_id_that_a_gateway_would_resolve_to_another_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not a request id"):
        make_job("veo-3", value)

"""The paths of the API, and which paths of a job are called."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import pytest
from hypothesis import assume, given
from strategies import AWKWARD_IDS, HOSTILE_IDS, JOB, NOW, jobs, reply, segments

from modelmax_async import Job
from modelmax_async._api.endpoints import (
    build_result,
    build_status,
    build_submit,
    parse_submit,
)
from modelmax_async._api.messages import Reply
from modelmax_async._api.paths import check_job, make_job, same_id, submitted_job
from modelmax_async._api.schemas import SubmitBody

SUBMITTED = attrs.evolve(JOB, submitted_at=NOW)

STATUS_PATH = "/v1/queue/veo-3/requests/req-1/status"
RESULT_PATH = "/v1/queue/veo-3/requests/req-1"


#: URLs that are not a path on the base URL's origin.
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
    "/v1/\x01/status",
    "/v1/\n/status",
    "/v1#x/status",
]


#: Paths that are valid, but not free to poll.
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


def test_paths_are_the_documented_ones() -> None:
    assert Job("veo-3", "req-1", STATUS_PATH, RESULT_PATH) == make_job("veo-3", "req-1")
    assert ("GET", STATUS_PATH, None, JOB) == attrs.astuple(build_status(JOB), recurse=False)
    assert ("GET", RESULT_PATH, None, JOB) == attrs.astuple(build_result(JOB), recurse=False)


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

    assert ["", "v1", "queue", "requests"] == [*parts[:3], parts[4]]
    assert [model, request_id] == [unquote(parts[3]), unquote(parts[5])]
    assert f"{job.response_url}/status" == job.status_url == build_status(job).path
    assert job.response_url == build_result(job).path
    assert f"/v1/queue/{model}" == unquote(build_submit(model, "p", None).path)


@pytest.mark.parametrize(("value", "word"), HOSTILE_IDS)
def test_hostile_ids_never_become_a_path(value: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make_job("veo-3", value)
    with pytest.raises(ValueError, match=word):
        make_job(value, "req-1")


@pytest.mark.parametrize("path", [*ELSEWHERE, *NOT_FREE])
def test_status_is_polled_at_a_free_path_of_this_origin_only(path: str) -> None:
    job = attrs.evolve(JOB, status_url=path)

    assert STATUS_PATH == build_status(job).path
    assert job is build_status(job).job


def test_status_is_never_polled_at_the_path_of_the_result() -> None:
    """Not even if the result path of the server looks like a status path."""
    job = attrs.evolve(JOB, status_url="/jobs/1/status", response_url="/jobs/1/status")

    assert STATUS_PATH == build_status(job).path


@pytest.mark.parametrize(
    "path",
    ["/v2/jobs/1/status", "/v1/queue/m/requests/a%2Fb/status", "/v1/status?token=a/../b"],
)
def test_path_from_the_server_is_used_unchanged(path: str) -> None:
    assert path == build_status(attrs.evolve(JOB, status_url=path)).path


@pytest.mark.parametrize("path", ELSEWHERE)
def test_result_is_fetched_from_this_origin_only(path: str) -> None:
    assert RESULT_PATH == build_result(attrs.evolve(JOB, response_url=path)).path


def test_result_is_fetched_where_the_server_says() -> None:
    job = attrs.evolve(JOB, response_url="/v2/jobs/1?full=1")

    assert "/v2/jobs/1?full=1" == build_result(job).path


@given(jobs)
def test_any_stored_job_is_called_on_this_origin(job: Job) -> None:
    free, billed = build_status(job).path, build_result(job).path

    assert "api.example" == urlsplit(f"https://api.example{free}").netloc
    assert "api.example" == urlsplit(f"https://api.example{billed}").netloc
    assert free != billed
    assert urlsplit(free).path.endswith("/status")


def _accepted(**fields: Any) -> Reply:
    return reply(202, {"request_id": "req-1", "status": "IN_QUEUE"} | fields)


def test_submitted_job_has_the_paths_of_the_server() -> None:
    response = _accepted(status_url="/s/1/status", response_url="/r/1", queue_position=3)

    assert Job("veo-3", "req-1", "/s/1/status", "/r/1", NOW) == parse_submit(
        response, "veo-3", now=NOW
    )


@pytest.mark.parametrize("fields", [{}, {"status_url": None, "response_url": 5}])
def test_submitted_job_without_paths_has_the_documented_ones(fields: dict[str, Any]) -> None:
    assert SUBMITTED == parse_submit(_accepted(**fields), "veo-3", now=NOW)


@pytest.mark.parametrize("path", ELSEWHERE)
def test_paths_of_another_origin_are_not_kept(path: str) -> None:
    response = _accepted(status_url=path, response_url=path)

    assert SUBMITTED == parse_submit(response, "veo-3", now=NOW)


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
    "parameters": Job("veo-3", "req-1", f"{OWN};x=y/status"),
    "parameters before": Job("veo-3", "req-1", "/v1/queue;x=y/veo-3/requests/req-1/status"),
    "parameters elsewhere": Job("veo-3", "req-1", "/s/1;x=y/status", "/r/1"),
    "parameters of the result": Job("veo-3", "req-1", response_url="/r/1;x=y"),
    "encoded parameters": Job("veo-3", "req-1", "/s/1%3Bx/status"),
    "encoded backslash": Job("veo-3", "req-1", "/v1/queue%5Cveo-3/requests/req-1/status"),
    "encoded NUL": Job("veo-3", "req-1", response_url="/r/1%00"),
    "encoded space": Job("veo-3", "req-1", "/s%20/1/status"),
    "encoded slash": Job("veo-3", "req-1", "/s/x%2Fstatus/status"),
    "encoded question mark": Job("veo-3", "req-1", response_url="/r/x%3Fy"),
    "twice encoded letter": Job("veo-3", "req-1", "/v1/%2571ueue/x/status"),
    "letter encoded for nothing": Job("veo-3", "req-1", response_url=f"{OWN[:-1]}%31"),
    "half an escape": Job("veo-3", "req-1", response_url="/r/1%3"),
    "tail within the id": Job("veo-3", "req-1", f"{OWN}%2Fstatus/status", OWN),
    "id with raw parameters": Job("veo-3", "a;b", response_url="/v1/queue/m/requests/a;b"),
    "other letters": Job("veo-3", "req-1", "/v1/queue/veo-3/Requests/x/status"),
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
        Job("veo-3", "a+b==", "/s/a%2bb%3D=/status", "/v1/queue/veo-3/requests/a%2bb=%3D"),
        Job("veo-3", "a%2F;\\ é", "/s/a%252F%3B%5C%20%C3%A9/status"),
        Job("veo 3", "req-1", "/v1/queue/veo%203/requests/req-1/status"),
        *(make_job(value, value) for value in AWKWARD_IDS),
        Job("veo-3", "req-1", "https://elsewhere.example/requests/x/status"),
    ],
)
def test_job_whose_paths_name_it_or_are_not_used_is_accepted(job: Job) -> None:
    assert job == check_job(job)


@given(segments, segments)
def test_documented_paths_name_any_job(model: str, request_id: str) -> None:
    assume(model.lower() != "requests")
    job = make_job(model, request_id)

    assert job == check_job(job)


@pytest.mark.parametrize("value", ["a/../b", "../b", "a/.", "./a"])
def test_id_that_a_gateway_would_resolve_to_another_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="request id must be non-empty and without"):
        make_job("veo-3", value)


def test_path_from_the_server_may_be_twice_as_long_as_the_documented_one() -> None:
    kept, dropped = (
        submitted_job(
            SubmitBody("req-1", f"/{'a' * size}/v1/queue/veo-3/requests/req-1/status"),
            "veo-3",
            NOW,
        )
        for size in (1000, 1200)
    )

    assert kept.status_url.startswith("/aaa")
    assert make_job("veo-3", "req-1").status_url == dropped.status_url


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("req", "req", True),
        ("req=", "req", True),
        ("req%3D%3D", "req", True),
        ("%72%65%71", "req", True),
        ("req2", "req", False),
        ("req" + "=" * 100, "req", False),
        ("req", "req" + "%3D" * 100, False),
    ],
)
def test_spellings_of_an_id_are_the_same_unless_one_is_far_longer(
    one: str, other: str, *, same: bool
) -> None:
    assert same is same_id(one, other)

"""What proves that nothing was billed, answer by answer; all else is kept or uncertain."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from strategies import JOB, NOW, completed, envelope, replies, reply

from modelmax_async import _errors as errors
from modelmax_async._api.messages import Reply, parse_error
from modelmax_async._billing.verdicts import (
    Failed,
    NotReady,
    Paid,
    Unbilled,
    Uncertain,
    Verdict,
    judge_break,
    judge_reply,
    may_resubmit,
    refused_submit,
)

HTML = b"<html><body>Bad Gateway</body></html>"


def judge(answer: Reply) -> Verdict:
    return judge_reply(answer, JOB, now=NOW)


@pytest.mark.parametrize("word", ["IN_QUEUE", "IN_PROGRESS"])
def test_200_of_a_running_job_cost_nothing(word: str) -> None:
    assert NotReady(word) == judge(reply(200, {"status": word, "model": "veo-3"}))


@pytest.mark.parametrize(("error", "text"), [("nsfw", "nsfw"), (None, ""), ([1], "[1]")])
def test_200_of_a_failed_job_cost_nothing(error: Any, text: str) -> None:
    assert Failed(text) == judge(reply(200, {"status": "FAILED", "error": error}))


PAID = [
    completed(),
    completed() | {"data": []},
    {"status": "PAUSED"},
    {"status": "in_progress"},
    {"status": " FAILED"},
    {"status": None},
    {"error": {"message": "m", "type": "t"}},
    [],
    HTML,
    b"\xff\x00",
    b'{"status": "IN_PROGRESS"',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", PAID)
@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 299])
def test_any_other_success_is_kept_byte_for_byte(status: int, content: Any) -> None:
    answer = reply(status, content)

    assert Paid(answer.body) == judge(answer)


@pytest.mark.parametrize("word", ["IN_QUEUE", "IN_PROGRESS", "FAILED", "COMPLETED"])
@pytest.mark.parametrize("status", [201, 202, 206])
def test_only_a_200_proves_by_its_words(status: int, word: str) -> None:
    assert isinstance(judge(reply(status, {"status": word})), Paid)


@pytest.mark.parametrize("status", [200, 201, 204, 206])
def test_empty_success_is_uncertain(status: int) -> None:
    assert Uncertain("answered", f"HTTP {status}, an empty body") == judge(reply(status))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b'{"status": "IN_QUEUE"}', mtime=0)[:-1], "gzip"),
        (b'{"status": "IN_QUEUE"}', "br"),
        (gzip.compress(b"0" * (8 * 1024 * 1024 + 1), mtime=0), "gzip"),
    ],
)
def test_success_that_cannot_be_unpacked_is_kept_as_it_came(body: bytes, encoding: str) -> None:
    assert Paid(body) == judge(reply(200, body, content_encoding=encoding))


@pytest.mark.parametrize("status", [302, 400, 402, 429, 500, 502, 503])
def test_error_that_was_not_read_proves_nothing(status: int) -> None:
    answer = evolve(reply(status, envelope()), unread="is larger than 65536 bytes")

    assert Uncertain(
        "answered",
        f"HTTP {status} without proof of no charge: the response is larger than 65536 bytes",
    ) == judge(answer)


@pytest.mark.parametrize("status", [200, 206, 402, 502])
def test_answer_too_large_is_uncertain_and_says_where_it_is(status: int) -> None:
    answer = reply(status, {"status": "IN_QUEUE"} | envelope(), kept_at="/tmp/kept.body")  # noqa: S108 - a name

    assert Uncertain(
        "answered",
        "the response is too large for memory; the part received is in /tmp/kept.body",
    ) == judge(answer)


@pytest.mark.parametrize(
    ("status", "retry"),
    [
        (400, False),
        (401, False),
        (402, False),
        (403, False),
        (404, False),
        (429, True),
        (502, True),
        (503, True),
    ],
)
def test_documented_refusal_cost_nothing(status: int, *, retry: bool) -> None:
    answer = reply(status, envelope("a_type", "words"), retry_after="3")

    assert Unbilled(parse_error(answer, now=NOW, job=JOB), retry) == judge(answer)


UNDOCUMENTED = [
    b"",
    HTML,
    b"null",
    {"error": "it broke"},
    {"error": {"message": "m"}},
    {"error": {"message": "m", "type": 5}},
    {"detail": "Not Found"},
    {"status": "IN_PROGRESS"},
]


@pytest.mark.parametrize("content", UNDOCUMENTED)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 502, 503])
def test_refusal_without_the_documented_body_is_uncertain(status: int, content: Any) -> None:
    verdict = judge(reply(status, content))

    assert isinstance(verdict, Uncertain)
    assert verdict.phase == "answered"
    assert verdict.cause.startswith(f"HTTP {status} without proof of no charge: ")


@pytest.mark.parametrize("content", [*UNDOCUMENTED, envelope()])
@pytest.mark.parametrize(
    "status",
    [
        *(100, 199, 300, 301, 302, 303, 304, 307, 308),
        *(405, 408, 409, 410, 418, 422, 425, 451, 499),
        *(500, 501, 504, 505, 520, 524, 599, 600, 999),
    ],
)
def test_everything_else_is_uncertain_whatever_it_says(status: int, content: Any) -> None:
    verdict = judge(reply(status, content))

    assert isinstance(verdict, Uncertain)
    assert verdict.phase == "answered"
    assert f"HTTP {status} " in verdict.cause


def test_cause_quotes_the_answer_as_bounded_plain_text() -> None:
    verdict = judge(reply(500, b"\x1b[2J\xff<h1>\n" + b"x" * 5000))

    assert isinstance(verdict, Uncertain)
    assert "\ufffd<h1> x" in verdict.cause
    assert verdict.cause.isprintable()
    assert len(verdict.cause) < 400


@pytest.mark.untraced
@given(replies)
def test_judging_never_raises_and_never_frees_without_proof(answer: Reply) -> None:
    verdict = judge(answer)

    match verdict:
        case Unbilled(error, retry):
            assert answer.status in {400, 401, 402, 403, 404, 429, 502, 503}
            assert isinstance(error, errors.APIError)
            assert error.error_type is not None
            assert retry is (answer.status in {429, 502, 503})
        case NotReady(word):
            assert answer.status == 200
            assert word in {"IN_QUEUE", "IN_PROGRESS"}
        case Failed(error):
            assert answer.status == 200
            assert error == error.encode().decode()
        case Paid(body):
            assert 200 <= answer.status < 300
            assert body
        case Uncertain(phase, cause):
            assert phase == "answered"
            assert cause.encode()


@pytest.mark.parametrize("kind", [errors.TransportError, errors.RequestTimeoutError])
@pytest.mark.parametrize("answered", [True, False])
def test_call_that_was_never_sent_cost_nothing(
    kind: type[errors.TransportError], *, answered: bool
) -> None:
    error = kind("no route", maybe_sent=False)

    assert Unbilled(error, retry=True) == judge_break(error, answered=answered)


@pytest.mark.parametrize("kind", [errors.TransportError, errors.RequestTimeoutError])
@pytest.mark.parametrize(("answered", "phase"), [(True, "answered"), (False, "sent")])
def test_call_that_broke_once_sent_is_uncertain(
    kind: type[errors.TransportError], phase: str, *, answered: bool
) -> None:
    verdict = judge_break(kind("reset", maybe_sent=True), answered=answered)

    assert isinstance(verdict, Uncertain)
    assert (phase, "reset") == (verdict.phase, verdict.cause)


def test_paid_bytes_stay_out_of_reprs() -> None:
    assert "PAID" not in repr(Paid(b"PAID"))


@pytest.mark.parametrize("sent", [True, False])
def test_submit_that_broke_is_repeated_only_if_it_was_never_sent(*, sent: bool) -> None:
    assert (not sent) is may_resubmit(errors.TransportError("x", maybe_sent=sent))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("documented", [True, False])
def test_submit_is_repeated_and_refused_by_the_documented_answers(
    status: int, *, documented: bool
) -> None:
    """429, 502, 503 with the documented body are repeated; 400 to 404 are a refusal."""
    content = envelope() if documented else HTML
    error = parse_error(reply(status, content), now=NOW, job=None)
    repeated = documented and status in {429, 502, 503}

    assert repeated is may_resubmit(error)
    assert (repeated or status in {400, 401, 402, 403, 404}) is refused_submit(error)

"""The errors: plain values, picklable, with messages that never risk a second charge."""

from __future__ import annotations

import copy
import pickle
import re
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from strategies import JOB, completed, reply

import modelmax_async
from modelmax_async import Failed, Status, Succeeded
from modelmax_async import _errors as errors
from modelmax_async._api.endpoints import parse_result
from modelmax_async._api.paths import make_job
from modelmax_async._errors import ModelMaxError, fresh

E = TypeVar("E", bound=ModelMaxError)

OTHER = make_job("veo-3.1", "req/2")
RESULT = parse_result(reply(200, completed()).body, OTHER)
FAILED = errors.JobFailedError("nsfw", job=JOB)
EXPIRED = errors.JobTimeoutError(
    "not finished after 5 seconds. Wait for the same job again",
    job=JOB,
    last_status=Status.IN_PROGRESS,
)

_FIELDS: dict[str, Any] = {
    "status_code": 402,
    "error_type": "insufficient_balance",
    "retry_after": 2.5,
    "details": {"session_id": "s", "amount": [1]},
    "job": JOB,
}


def _api_error(kind: type[errors.APIError], status: int) -> errors.APIError:
    return kind("the server's words", **(_FIELDS | {"status_code": status}))


TABLE: list[ModelMaxError] = [
    ModelMaxError("something broke", job=JOB),
    errors.ConfigurationError("no API key: set MODELMAX_API_KEY"),
    errors.ClientStateError("this client is closed: make a new one"),
    errors.TransportError("the connection broke", maybe_sent=True, job=JOB),
    errors.RequestTimeoutError("took 30 s", maybe_sent=False, job=JOB),
    _api_error(errors.APIError, 418),
    _api_error(errors.BadRequestError, 400),
    _api_error(errors.AuthenticationError, 401),
    _api_error(errors.InsufficientBalanceError, 402),
    _api_error(errors.PermissionDeniedError, 403),
    _api_error(errors.NotFoundError, 404),
    _api_error(errors.RateLimitError, 429),
    _api_error(errors.ServerError, 503),
    errors.InvalidResponseError("no JSON", body=b"<html>\xff", job=JOB),
    errors.SubmitUncertainError("a job may exist"),
    errors.JobError("odd", job=JOB, last_status="PAUSED"),
    FAILED,
    EXPIRED,
    errors.NotReadyError("it is IN_QUEUE", job=JOB, last_status=Status.IN_QUEUE),
    errors.InconsistentStateError("COMPLETED, and not", job=JOB),
    errors.ResultUncertainError("HTTP 504", job=JOB, phase="answered", since=5.0, attempt="a1"),
    errors.ResultDroppedError(job=JOB),
    errors.DownloadError("disk full", url="/v1/0", part="a.mp4.part", job=JOB),
    errors.KeyConflictError("the key belongs to another request", key="row-17", job=JOB),
    errors.LedgerError("disk full"),
    errors.GatherError(
        "2 of the jobs failed",
        [FAILED, EXPIRED],
        outcomes=[Failed(JOB, FAILED), Succeeded(OTHER, RESULT)],
    ),
]
every = pytest.mark.parametrize("error", TABLE, ids=lambda error: type(error).__name__)


def _family(kind: type[E]) -> set[type[E]]:
    return {kind}.union(*(_family(child) for child in kind.__subclasses__()))


def _own(kind: type[ModelMaxError]) -> bool:
    return kind.__module__ == "modelmax_async"


def test_table_has_every_error_of_the_package() -> None:
    assert {type(e) for e in TABLE} == {kind for kind in _family(ModelMaxError) if _own(kind)}


def test_every_error_is_public() -> None:
    public = {getattr(modelmax_async, name) for name in modelmax_async.__all__}

    assert {type(error) for error in TABLE} <= public


@every
@pytest.mark.parametrize(
    "again",
    [
        *[
            lambda e, protocol=protocol: pickle.loads(pickle.dumps(e, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ],
        copy.copy,
        copy.deepcopy,
        fresh,
    ],
)
def test_copies_are_equal(error: ModelMaxError, again: Callable[[Any], Any]) -> None:
    twin = again(error)

    assert twin is not error
    assert type(error) is type(twin)
    assert error == twin
    assert hash(error) == hash(twin)
    assert str(error) == str(twin)
    assert error.args == twin.args
    assert vars(error) == vars(twin)


@every
def test_hash_does_not_change_with_an_error(error: ModelMaxError) -> None:
    twin = fresh(error)
    before = hash(twin)
    twin.add_note("seen by a test")
    twin.job = OTHER

    assert before == hash(twin)
    assert 1 == len({twin, fresh(twin)})


@every
def test_notes_are_pickled(error: ModelMaxError) -> None:
    twin = fresh(error)
    twin.add_note("seen by a test")

    assert ["seen by a test"] == pickle.loads(pickle.dumps(twin)).__notes__


def test_errors_differ_by_class_message_and_attributes() -> None:
    one = errors.TransportError("x", maybe_sent=True)

    assert one != errors.TransportError("x", maybe_sent=False)
    assert one != errors.TransportError("y", maybe_sent=True)
    assert one != errors.RequestTimeoutError("x", maybe_sent=True)
    assert one != "x"


@every
def test_fresh_copy_keeps_the_cause_but_no_traceback(error: ModelMaxError) -> None:
    cause = OSError("the cable")
    with pytest.raises(ModelMaxError) as caught:
        raise fresh(error) from cause
    twin = fresh(caught.value)

    assert caught.value.__traceback__ is not None
    assert cause is twin.__cause__
    assert twin.__suppress_context__
    assert twin.__traceback__ is None


def test_fresh_leaves_foreign_errors_alone() -> None:
    foreign = KeyError("a")

    assert foreign is fresh(foreign)


def test_raising_copies_does_not_accumulate_frames() -> None:
    depths = []
    for _ in range(3):
        try:
            raise fresh(FAILED)
        except ModelMaxError as raised:
            depths.append(len(traceback.extract_tb(raised.__traceback__)))

    assert [1, 1, 1] == depths


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.ClientStateError, RuntimeError),
        (errors.RequestTimeoutError, TimeoutError),
        (errors.RequestTimeoutError, errors.TransportError),
        (errors.JobTimeoutError, TimeoutError),
        (errors.JobTimeoutError, errors.JobError),
        (errors.GatherError, ExceptionGroup),
        *[
            (kind, errors.APIError)
            for kind in (
                errors.BadRequestError,
                errors.AuthenticationError,
                errors.InsufficientBalanceError,
                errors.PermissionDeniedError,
                errors.NotFoundError,
                errors.RateLimitError,
                errors.ServerError,
            )
        ],
        *[
            (kind, errors.JobError)
            for kind in (
                errors.JobFailedError,
                errors.NotReadyError,
                errors.InconsistentStateError,
                errors.ResultUncertainError,
            )
        ],
    ],
)
def test_errors_are_caught_by_their_bases(kind: type, builtin: type) -> None:
    assert issubclass(kind, builtin)
    assert issubclass(kind, ModelMaxError)


def test_only_the_two_timeouts_are_os_errors() -> None:
    timeouts = {type(error) for error in TABLE if isinstance(error, OSError)}

    assert {errors.RequestTimeoutError, errors.JobTimeoutError} == timeouts


def test_attributes_are_the_documented_ones() -> None:
    response = _api_error(errors.InsufficientBalanceError, 402)
    uncertain = errors.ResultUncertainError("x", job=JOB, phase="sent", since=5.0)

    assert (402, "insufficient_balance", "the server's words", 2.5) == (
        response.status_code,
        response.error_type,
        response.message,
        response.retry_after,
    )
    assert {"session_id": "s", "amount": [1]} == response.details
    assert JOB is response.job
    assert ("sent", 5.0, JOB, None) == (
        uncertain.phase,
        uncertain.since,
        uncertain.job,
        uncertain.last_status,
    )
    assert ("nsfw", "FAILED", JOB) == (FAILED.error, FAILED.last_status, FAILED.job)
    assert (JOB, Status.IN_PROGRESS) == (EXPIRED.job, EXPIRED.last_status)


def test_omitted_attributes_have_defaults() -> None:
    response = errors.APIError("x", status_code=500)
    download = errors.DownloadError("x")

    assert (None, None, {}, None) == (
        response.error_type,
        response.retry_after,
        response.details,
        response.job,
    )
    assert ("", None, None) == (download.url, download.part, download.job)
    assert b"" == errors.InvalidResponseError("x").body
    assert () == errors.GatherError("x", [FAILED]).outcomes
    assert ModelMaxError("x").job is None


@pytest.mark.parametrize("kind", sorted(_family(errors.APIError), key=str))
def test_api_errors_say_what_happened_to_which_job_and_what_to_do(
    kind: type[errors.APIError],
) -> None:
    text = str(_api_error(kind, 499))

    assert (
        f"HTTP 499 insufficient_balance for job req-1: the server's words. {kind.advice}"
        == text
    )
    assert kind.advice.endswith(".")


@pytest.mark.parametrize("words", ["ends.", "ends!", "ends?"])
def test_message_of_the_server_gets_no_second_full_stop(words: str) -> None:
    error = errors.APIError(words, status_code=500)

    assert f"HTTP 500: {words} Retry after a moment." == str(error)


@every
def test_job_errors_name_the_job_and_its_model(error: ModelMaxError) -> None:
    named = str(error).startswith("job req-1 (veo-3): ")

    assert isinstance(error, errors.JobError) is named


def test_uncertain_result_says_how_to_fetch_it_again() -> None:
    text = str(errors.ResultUncertainError("HTTP 504", job=JOB, phase="answered", since=5.0))

    assert "HTTP 504" in text
    assert "(answered)" in text
    assert "may have been charged" in text
    assert "result(job, accept_second_charge=True)" in text


def test_failed_job_says_that_it_was_not_billed() -> None:
    assert "job req-1 (veo-3): failed and was not billed: nsfw" == str(FAILED)


def test_402_says_that_nothing_was_charged() -> None:
    assert "Nothing was charged" in str(_api_error(errors.InsufficientBalanceError, 402))


@every
def test_no_error_suggests_paying_again(error: ModelMaxError) -> None:
    words = f"{error} {type(error).__doc__}"

    assert not re.search(
        r"re-?submit|submit (it|the job)? ?again|generate\(", words, re.IGNORECASE
    )


@every
def test_every_error_is_documented(error: ModelMaxError) -> None:
    assert type(error).__doc__


def test_group_holds_every_outcome_in_order() -> None:
    group = TABLE[-1]

    assert isinstance(group, errors.GatherError)

    assert (JOB, OTHER) == tuple(outcome.job for outcome in group.outcomes)
    assert (FAILED, EXPIRED) == group.exceptions
    assert "2 of the jobs failed (2 sub-exceptions)" == str(group)


def test_group_splits_and_keeps_its_outcomes() -> None:
    group = TABLE[-1]

    assert isinstance(group, errors.GatherError)
    timeouts, rest = group.split(errors.JobTimeoutError)

    assert isinstance(timeouts, errors.GatherError)
    assert isinstance(rest, errors.GatherError)
    assert (EXPIRED,) == timeouts.exceptions
    assert (FAILED,) == rest.exceptions
    assert group.outcomes == timeouts.outcomes == rest.outcomes
    assert group.message == timeouts.message


def test_group_is_handled_by_except_star() -> None:
    seen: list[BaseException] = []
    try:
        try:
            raise fresh(TABLE[-1])
        except* errors.JobFailedError as failed:
            seen += failed.exceptions
    except errors.GatherError as rest:
        seen += rest.exceptions

    assert [FAILED, EXPIRED] == seen


def test_group_is_caught_as_a_modelmax_error() -> None:
    group = errors.GatherError("x", [FAILED])

    with pytest.raises(ModelMaxError) as caught:
        raise group

    assert group is caught.value

"""What a ledger entry says to a caller that wants the result."""

from __future__ import annotations

import attrs
import pytest

from modelmax_async import (
    JobFailedError,
    LedgerEntry,
    ResultDroppedError,
    ResultUncertainError,
)
from modelmax_async._api.paths import make_job
from modelmax_async._billing.outcomes import read_entry
from modelmax_async._models import LedgerState, Phase

JOB = make_job("veo-3", "reef")
UNCERTAIN = LedgerEntry(
    job=JOB, state="uncertain", since=5.0, attempt="a1", phase="answered", cause="it broke off"
)


def uncertainty(entry: LedgerEntry, also: str = "") -> ResultUncertainError:
    with pytest.raises(ResultUncertainError) as caught:
        read_entry(entry, JOB, also=also)
    return caught.value


@pytest.mark.parametrize("phase", ["sent", "answered"])
def test_uncertainty_is_told_as_it_was_recorded(phase: Phase) -> None:
    error = uncertainty(attrs.evolve(UNCERTAIN, phase=phase))

    assert (phase, 5.0, "a1") == (error.phase, error.since, error.attempt)
    assert "it broke off" in str(error)
    assert "abandoned the job" not in str(error)


def test_uncertainty_without_a_record_of_why_is_taken_for_a_call_that_was_sent() -> None:
    error = uncertainty(attrs.evolve(UNCERTAIN, phase=None, cause=None))

    assert "sent" == error.phase
    assert "(sent): unknown cause." in str(error)


def test_what_was_learnt_since_is_told_beside_the_recorded_cause() -> None:
    assert "it broke off; the disk is full" in str(uncertainty(UNCERTAIN, "the disk is full"))


def test_job_that_was_given_up_names_no_attempt_to_decide_about() -> None:
    error = uncertainty(attrs.evolve(UNCERTAIN, state="abandoned"))

    assert "it broke off; you abandoned the job" in str(error)
    assert error.attempt is None


def test_unreadable_answer_does_not_hide_that_a_later_call_is_uncertain() -> None:
    assert "it broke off" in str(uncertainty(attrs.evolve(UNCERTAIN, body=b"garbage")))


@pytest.mark.parametrize("state", ["claimed", "armed"])
def test_unreadable_answer_says_nothing_while_a_later_call_is_under_way(
    state: LedgerState,
) -> None:
    assert read_entry(attrs.evolve(UNCERTAIN, state=state, body=b"garbage"), JOB) is None


def test_result_that_was_handed_out_and_dropped_is_said_to_be() -> None:
    with pytest.raises(ResultDroppedError):
        read_entry(attrs.evolve(UNCERTAIN, state="delivered"), JOB)


def test_failed_job_raises_what_the_server_said() -> None:
    failed = LedgerEntry(job=JOB, state="failed", since=5.0, error="blocked")

    with pytest.raises(JobFailedError, match="blocked"):
        read_entry(failed, JOB)

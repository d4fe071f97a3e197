"""The state machine of a job's one billed call: every move from every state."""

from __future__ import annotations

from typing import Any, get_args

import attrs
import pytest
from strategies import JOB, NOW

from modelmax_async import LedgerEntry
from modelmax_async._lifecycle import (
    GONE,
    Arm,
    Claim,
    Doubt,
    Fail,
    Move,
    Release,
    Remember,
    Renew,
    Step,
    Store,
    observed,
    step,
)
from modelmax_async._models import LedgerState

LEASE = 12.0
BEFORE = NOW - 5.0

KNOWN = LedgerEntry(job=JOB, state="known", since=BEFORE)
CLAIMED = LedgerEntry(
    job=JOB, state="claimed", since=BEFORE, owner="me", attempt="a1", lease_until=NOW + 7
)
ARMED = attrs.evolve(CLAIMED, state="armed")
LATE_CLAIMED = attrs.evolve(CLAIMED, lease_until=NOW)
LATE_ARMED = attrs.evolve(ARMED, lease_until=NOW)
STORED = LedgerEntry(job=JOB, state="stored", since=BEFORE, attempt="a1", body=b"{}")
FAILED = LedgerEntry(job=JOB, state="failed", since=BEFORE, error="nsfw")
UNCERTAIN = LedgerEntry(
    job=JOB, state="uncertain", since=BEFORE, attempt="a1", phase="sent", cause="reset"
)
ENTRIES: dict[str, LedgerEntry | None] = {
    "none": None,
    "known": KNOWN,
    "claimed": CLAIMED,
    "lapsed": LATE_CLAIMED,
    "armed": ARMED,
    "orphaned": LATE_ARMED,
    "stored": STORED,
    "failed": FAILED,
    "uncertain": UNCERTAIN,
}

_CLAIM = Claim(JOB, "me", "a2", LEASE)
MOVES: dict[str, Move] = {
    "remember": Remember(JOB),
    "claim": _CLAIM,
    "claim a1": attrs.evolve(_CLAIM, accept="a1"),
    "claim a0": attrs.evolve(_CLAIM, accept="a0"),
    "arm": Arm("a1", LEASE),
    "arm a0": Arm("a0", LEASE),
    "renew": Renew("a1", LEASE),
    "renew a0": Renew("a0", LEASE),
    "store": Store(JOB, "a1", b"{}"),
    "store a0": Store(JOB, "a0", b"{}"),
    "release": Release("a1"),
    "release a0": Release("a0"),
    "fail": Fail("nsfw"),
    "fail a1": Fail("nsfw", "a1"),
    "fail a0": Fail("nsfw", "a0"),
    "doubt": Doubt("a1", "answered", "HTTP 504"),
    "doubt a0": Doubt("a0", "answered", "HTTP 504"),
}

#: What each move makes of each entry: the state it then has, in capitals where it was granted.
#: A move of ``a1`` is by the attempt that the entry is about, one of ``a0`` by an older one.
TABLE = """
            none     known    claimed  lapsed   armed      orphaned   stored   failed  uncertain
remember    KNOWN    known    claimed  known    armed      uncertain  stored   failed  uncertain
claim       CLAIMED  CLAIMED  claimed  CLAIMED  armed      uncertain  stored   failed  uncertain
claim+a1    CLAIMED  CLAIMED  claimed  CLAIMED  armed      CLAIMED    CLAIMED  failed  CLAIMED
claim+a0    CLAIMED  CLAIMED  claimed  CLAIMED  armed      uncertain  stored   failed  uncertain
arm         -        known    ARMED    claimed  armed      armed      stored   failed  uncertain
arm+a0      -        known    claimed  claimed  armed      armed      stored   failed  uncertain
renew       -        known    CLAIMED  claimed  ARMED      ARMED      stored   failed  uncertain
renew+a0    -        known    claimed  claimed  armed      armed      stored   failed  uncertain
store       STORED   STORED   STORED   STORED   STORED     STORED     STORED   STORED  STORED
store+a0    STORED   STORED   STORED   STORED   STORED     STORED     stored   STORED  STORED
release     -        known    KNOWN    KNOWN    KNOWN      KNOWN      stored   failed  uncertain
release+a0  -        known    claimed  claimed  armed      armed      stored   failed  uncertain
fail        -        FAILED   FAILED   FAILED   armed      FAILED     stored   failed  FAILED
fail+a1     -        FAILED   FAILED   FAILED   FAILED     FAILED     stored   failed  FAILED
fail+a0     -        FAILED   FAILED   FAILED   armed      FAILED     stored   failed  FAILED
doubt       -        known    claimed  claimed  UNCERTAIN  UNCERTAIN  stored   failed  UNCERTAIN
doubt+a0    -        known    claimed  claimed  armed      armed      stored   failed  uncertain
"""


def _rows() -> list[Any]:
    head, *rows = TABLE.strip().splitlines()
    columns = head.split()
    assert columns == list(ENTRIES)
    cases = []
    for row in rows:
        name, *words = row.split()
        for column, word in zip(columns, words, strict=True):
            move = name.replace("+", " ")
            cases.append(pytest.param(column, move, word, id=f"{move} on {column}"))
    return cases


def take(entry: LedgerEntry | None, move: Move, now: float = NOW) -> Step:
    done = step(entry, move, now)
    assert done is not None
    return done


@pytest.mark.parametrize(("column", "move", "word"), _rows())
def test_every_move_on_every_state_is_as_in_the_table(
    column: str, move: str, word: str
) -> None:
    entry = ENTRIES[column]
    done = step(entry, MOVES[move], NOW)
    if word == "-":
        assert done is None
        return

    assert done is not None
    assert (word.lower(), word.isupper()) == (done.entry.state, done.granted)
    assert done.entry.job == JOB
    if not done.granted and word == getattr(entry, "state", None):
        assert entry is done.entry  # so that a ledger need not write


def test_table_has_every_move_and_state() -> None:
    assert set(get_args(Move)) == {type(move) for move in MOVES.values()}
    assert set(get_args(LedgerState)) == {e.state for e in ENTRIES.values() if e is not None}
    assert len(ENTRIES) * len(MOVES) == len(_rows())


def test_claim_records_who_and_until_when() -> None:
    expected = attrs.evolve(
        KNOWN, state="claimed", since=NOW, owner="me", attempt="a2", lease_until=NOW + LEASE
    )

    assert Step(expected, granted=True) == step(KNOWN, _CLAIM, NOW)


def test_claim_of_an_unknown_job_brings_the_job() -> None:
    done = take(None, _CLAIM)

    assert (done.entry.job, done.entry.state, done.entry.attempt) == (JOB, "claimed", "a2")


def test_answer_for_a_lost_entry_is_stored() -> None:
    done = take(None, Store(JOB, "a1", b"paid"))

    assert (done.entry.state, done.entry.body, done.entry.job) == ("stored", b"paid", JOB)


def test_arming_extends_the_lease() -> None:
    assert (
        attrs.evolve(ARMED, since=NOW, lease_until=NOW + 30)
        == take(CLAIMED, Arm("a1", 30)).entry
    )


@pytest.mark.parametrize("entry", [CLAIMED, ARMED, LATE_ARMED])
def test_renewing_changes_the_lease_only(entry: LedgerEntry) -> None:
    done = take(entry, Renew("a1", 30))

    assert attrs.evolve(entry, lease_until=NOW + 30) == done.entry


@pytest.mark.parametrize(("late", "free"), [(-0.001, False), (0.0, True), (1.0, True)])
def test_claim_is_free_the_moment_its_lease_has_run_out(late: float, *, free: bool) -> None:
    now = CLAIMED.lease_until + late

    assert free is take(CLAIMED, _CLAIM, now).granted
    assert free is not take(CLAIMED, Arm("a1", LEASE), now).granted
    assert free is not take(CLAIMED, Renew("a1", LEASE), now).granted


@pytest.mark.parametrize(
    ("entry", "state"), [(CLAIMED, "known"), (ARMED, "uncertain"), (KNOWN, "known")]
)
def test_others_see_the_truth_once_the_owner_is_gone(entry: LedgerEntry, state: str) -> None:
    assert entry is observed(entry, entry.lease_until - 0.001)
    assert state == observed(entry, entry.lease_until).state


@pytest.mark.parametrize("entry", [STORED, FAILED, UNCERTAIN, KNOWN])
def test_what_nobody_holds_is_seen_as_it_is(entry: LedgerEntry) -> None:
    assert entry is observed(entry, NOW + 1e9)


def test_job_armed_by_one_who_is_gone_is_uncertain_with_a_cause() -> None:
    entry = observed(LATE_ARMED, NOW)

    assert (
        entry.state,
        entry.since,
        entry.phase,
        entry.cause,
        entry.attempt,
    ) == ("uncertain", NOW, "sent", GONE, "a1")


def test_late_answer_of_a_paused_owner_is_stored() -> None:
    seen = take(LATE_ARMED, Remember(JOB)).entry
    done = take(seen, Store(JOB, "a1", b"paid"))

    assert seen.state == "uncertain"
    assert done.granted
    assert attrs.evolve(STORED, since=NOW, body=b"paid") == done.entry


def test_paused_claimant_cannot_arm_what_another_has_claimed() -> None:
    taken = take(LATE_CLAIMED, _CLAIM).entry

    assert (taken.state, taken.attempt) == ("claimed", "a2")
    assert not take(taken, Arm("a1", LEASE)).granted
    assert not take(taken, Renew("a1", LEASE)).granted
    assert not take(taken, Release("a1")).granted
    assert take(taken, Arm("a2", LEASE)).granted


def test_paused_claimant_cannot_arm_what_others_have_seen_free() -> None:
    rested = take(LATE_CLAIMED, Remember(JOB)).entry

    assert rested.state == "known"
    assert not take(rested, Arm("a1", LEASE), NOW - 60).granted


@pytest.mark.parametrize("entry", [LATE_ARMED, UNCERTAIN, STORED])
def test_decision_is_about_one_outcome_only(entry: LedgerEntry) -> None:
    """An outcome that came after the user has decided is not given up unseen."""
    assert take(entry, attrs.evolve(_CLAIM, accept="a1")).granted
    assert not take(entry, attrs.evolve(_CLAIM, accept="a9")).granted


def test_entry_without_an_attempt_is_not_taken_for_a_decision_about_none() -> None:
    dropped = attrs.evolve(UNCERTAIN, attempt=None)

    assert not take(dropped, _CLAIM).granted


def test_storing_clears_what_was_open() -> None:
    asked = take(UNCERTAIN, attrs.evolve(_CLAIM, accept="a1")).entry
    armed = take(asked, Arm("a2", LEASE)).entry
    done = take(armed, Store(JOB, "a2", b"paid"))

    assert (armed.phase, armed.cause) == ("sent", "reset")
    assert (
        LedgerEntry(job=JOB, state="stored", since=NOW, attempt="a2", body=b"paid")
        == done.entry
    )


def test_second_paid_answer_does_not_replace_the_one_that_is_served() -> None:
    done = take(STORED, Store(JOB, "a2", b"other"))

    assert Step(STORED, granted=False) == done


def test_answer_to_a_decided_call_replaces_the_unreadable_one() -> None:
    second = take(STORED, attrs.evolve(_CLAIM, accept="a1")).entry
    second = take(second, Arm("a2", LEASE)).entry
    done = take(second, Store(JOB, "a2", b"readable"))

    assert attrs.evolve(STORED, since=NOW, attempt="a2", body=b"readable") == done.entry


def test_same_answer_can_be_stored_again() -> None:
    assert take(STORED, Store(JOB, "a1", b"{}")).granted


@pytest.mark.parametrize(
    ("entry", "state"), [(KNOWN, "known"), (UNCERTAIN, "uncertain"), (STORED, "stored")]
)
@pytest.mark.parametrize("arm", [True, False])
def test_attempt_that_cost_nothing_leaves_things_as_they_were(
    entry: LedgerEntry, state: str, *, arm: bool
) -> None:
    held = take(entry, attrs.evolve(_CLAIM, accept="a1")).entry
    held = take(held, Arm("a2", LEASE)).entry if arm else held
    done = take(held, Release("a2"))

    assert done.granted
    assert (state, None, 0.0) == (done.entry.state, done.entry.owner, done.entry.lease_until)
    assert (entry.body, entry.phase, entry.cause) == (
        done.entry.body,
        done.entry.phase,
        done.entry.cause,
    )


@pytest.mark.parametrize(
    ("entry", "state"), [(KNOWN, "known"), (UNCERTAIN, "uncertain"), (STORED, "stored")]
)
def test_claimant_who_dies_leaves_things_as_they_were(entry: LedgerEntry, state: str) -> None:
    """Whoever comes next must learn what is open: a dead claim tells them nothing."""
    held = take(entry, attrs.evolve(_CLAIM, accept="a1")).entry
    late = NOW + LEASE
    claim = attrs.evolve(_CLAIM, attempt="a3")

    assert state == observed(held, late).state
    assert state == take(held, Remember(JOB), late).entry.state
    assert (state == "known") is take(held, claim, late).granted
    if state != "known":
        assert state == take(held, claim, late).entry.state


def test_doubt_about_a_second_call_is_not_hidden_by_an_old_answer() -> None:
    """Paid, unreadable, fetched again, no answer: a third call that is free settles nothing."""
    second = take(STORED, attrs.evolve(_CLAIM, accept="a1")).entry
    second = take(second, Arm("a2", LEASE)).entry
    second = take(second, Doubt("a2", "sent", "reset")).entry
    third = take(second, Claim(JOB, "me", "a3", LEASE, accept="a2")).entry
    rested = take(third, Release("a3")).entry

    assert (rested.state, rested.body, rested.cause) == ("uncertain", b"{}", "reset")


def test_armed_never_becomes_free_by_waiting() -> None:
    entry = ARMED
    for now in (NOW, NOW + 7, NOW + 1e3, NOW + 1e9):
        done = take(entry, _CLAIM, now)
        entry = done.entry

        assert not done.granted


def test_failed_is_final_but_for_an_answer_that_was_paid() -> None:
    for name, move in MOVES.items():
        expected = "stored" if name.startswith("store") else "failed"

        assert expected == take(FAILED, move).entry.state


def test_failure_is_recorded_with_the_servers_words() -> None:
    done = take(CLAIMED, Fail("nsfw", "a1"))

    assert (
        done.entry.state,
        done.entry.error,
        done.entry.owner,
        done.entry.since,
    ) == ("failed", "nsfw", None, NOW)


def test_doubt_records_how_far_it_came() -> None:
    done = take(ARMED, Doubt("a1", "answered", "HTTP 504"))

    assert attrs.evolve(UNCERTAIN, since=NOW, phase="answered", cause="HTTP 504") == done.entry

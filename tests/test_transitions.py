"""The state machine of a job's one billed call: every move from every state."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, get_args

import attrs
import pytest
from strategies import JOB, NOW, completed

from modelmax_async import LedgerEntry, ledger
from modelmax_async._models import LedgerState
from modelmax_async.ledger.attempts import GONE, LONGEST_LEASE, is_held, later_lease, observed
from modelmax_async.ledger.moves import (
    Arm,
    Bind,
    Claim,
    Fail,
    Forget,
    Look,
    MarkSaved,
    Move,
    Prune,
    Release,
    Remember,
    Renew,
    Reserve,
    Store,
    Uncertain,
)
from modelmax_async.ledger.transitions import Step, job_step

LEASE = 12.0
BEFORE = NOW - 5.0
ENDS = NOW + 7.0
GOOD = json.dumps(completed()).encode()
BAD = b"\x80 not json"

KNOWN = LedgerEntry(job=JOB, state="known", since=BEFORE)
CLAIMED = LedgerEntry(
    job=JOB,
    state="claimed",
    since=BEFORE,
    owner="me",
    attempt="a1",
    lease_until=ENDS,
    lease=LEASE,
    resting="known",
)
ARMED = attrs.evolve(CLAIMED, state="armed")
STORED = LedgerEntry(job=JOB, state="stored", since=BEFORE, attempt="a1", body=BAD)
READABLE = attrs.evolve(STORED, body=GOOD)
FAILED = LedgerEntry(job=JOB, state="failed", since=BEFORE, error="nsfw")
UNCERTAIN = LedgerEntry(
    job=JOB,
    state="uncertain",
    since=BEFORE,
    attempt="a1",
    lease=LEASE,
    resting="known",
    phase="sent",
    cause="reset",
)
#: The fields of a call that was decided on while an earlier one was uncertain.
REDONE: dict[str, Any] = {
    "resting": "uncertain",
    "decided": "a0",
    "phase": "sent",
    "cause": "reset",
}
RECLAIMED = attrs.evolve(CLAIMED, **REDONE)
REARMED = attrs.evolve(ARMED, **REDONE)
DOUBLE = attrs.evolve(UNCERTAIN, **REDONE)
ABANDONED = attrs.evolve(UNCERTAIN, state="abandoned")
DELIVERED = LedgerEntry(job=JOB, state="delivered", since=BEFORE, attempt="a1")
ENTRIES: dict[str, LedgerEntry | None] = {
    "none": None,
    "known": KNOWN,
    "claimed": CLAIMED,
    "armed": ARMED,
    "reclaimed": RECLAIMED,
    "rearmed": REARMED,
    "stored": STORED,
    "readable": READABLE,
    "failed": FAILED,
    "uncertain": UNCERTAIN,
    "double": DOUBLE,
    "abandoned": ABANDONED,
    "delivered": DELIVERED,
}

_CLAIM = Claim(JOB, "me", "a2", LEASE)
_TAKE = attrs.evolve(_CLAIM, takeover=ENDS)
MOVES: dict[str, Move] = {
    "look": Look(JOB),
    "remember": Remember(JOB),
    "claim": _CLAIM,
    "claim a1": attrs.evolve(_CLAIM, accept="a1"),
    "claim a0": attrs.evolve(_CLAIM, accept="a0"),
    "take": _TAKE,
    "take a1": attrs.evolve(_TAKE, accept="a1"),
    "take a0": attrs.evolve(_TAKE, accept="a0"),
    "stale a1": attrs.evolve(_TAKE, accept="a1", takeover=ENDS - 1),
    "arm": Arm("a1", LEASE),
    "arm a0": Arm("a0", LEASE),
    "renew": Renew("a1", LEASE),
    "renew a0": Renew("a0", LEASE),
    "good": Store(JOB, "a1", GOOD),
    "good a0": Store(JOB, "a0", GOOD),
    "bad": Store(JOB, "a1", BAD),
    "bad a0": Store(JOB, "a0", BAD),
    "release": Release("a1"),
    "release a0": Release("a0"),
    "unknown": Release("a1", unknown=True),
    "fail": Fail("nsfw"),
    "fail a1": Fail("nsfw", "a1"),
    "fail a0": Fail("nsfw", "a0"),
    "uncertain": Uncertain("a1", "answered", "HTTP 504"),
    "uncertain a0": Uncertain("a0", "answered", "HTTP 504"),
    "forget": Forget("req-1"),
    "take forget": Forget("req-1", ENDS),
    "saved": MarkSaved(),
    "prune": Prune(NOW),
    "reserve": Reserve("print", "a1", LEASE),
    "bind": Bind("print", "a1", JOB),
}

#: The state after each move on each entry, in capitals if the move was granted.
#: ``a1`` is the attempt of the entry, ``a0`` an earlier one. ``claim+a1`` decides to pay again
#: for ``a1``; ``take`` takes over the current lease, ``stale`` an earlier one. A ``good``
#: response is readable, a ``bad`` one is not. What is ``deleted``, the ledger
#: is to delete.
TABLE = """
             none    known   claimed   armed     reclaimed rearmed   stored  readable failed uncertain double    abandoned delivered
look         -       KNOWN   CLAIMED   ARMED     CLAIMED   ARMED     STORED  STORED   FAILED UNCERTAIN UNCERTAIN ABANDONED DELIVERED
remember     KNOWN   known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
claim        CLAIMED CLAIMED claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
claim+a1     CLAIMED CLAIMED claimed   armed     claimed   armed     CLAIMED stored   failed CLAIMED   CLAIMED   CLAIMED   CLAIMED
claim+a0     CLAIMED CLAIMED claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
take         CLAIMED CLAIMED CLAIMED   uncertain uncertain uncertain stored  stored   failed uncertain uncertain abandoned delivered
take+a1      CLAIMED CLAIMED CLAIMED   CLAIMED   uncertain CLAIMED   CLAIMED stored   failed CLAIMED   CLAIMED   CLAIMED   CLAIMED
take+a0      CLAIMED CLAIMED CLAIMED   uncertain CLAIMED   uncertain stored  stored   failed uncertain uncertain abandoned delivered
stale+a1     CLAIMED CLAIMED claimed   armed     claimed   armed     CLAIMED stored   failed CLAIMED   CLAIMED   CLAIMED   CLAIMED
arm          -       known   ARMED     armed     ARMED     armed     stored  stored   failed uncertain uncertain abandoned delivered
arm+a0       -       known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
renew        -       known   CLAIMED   ARMED     CLAIMED   ARMED     stored  stored   failed uncertain uncertain abandoned delivered
renew+a0     -       known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
good         STORED  STORED  STORED    STORED    STORED    STORED    STORED  STORED   STORED STORED    STORED    STORED    STORED
good+a0      STORED  STORED  STORED    STORED    STORED    STORED    STORED  stored   STORED STORED    STORED    STORED    STORED
bad          STORED  STORED  STORED    STORED    STORED    STORED    STORED  stored   STORED STORED    STORED    STORED    STORED
bad+a0       STORED  STORED  STORED    ARMED     CLAIMED   ARMED     stored  stored   STORED STORED    STORED    STORED    STORED
release      -       known   KNOWN     KNOWN     UNCERTAIN UNCERTAIN stored  stored   failed KNOWN     UNCERTAIN abandoned delivered
release+a0   -       known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
unknown      -       known   KNOWN     KNOWN     UNCERTAIN UNCERTAIN stored  stored   failed KNOWN     UNCERTAIN abandoned delivered
fail         -       FAILED  FAILED    armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
fail+a1      -       known   FAILED    FAILED    UNCERTAIN UNCERTAIN stored  stored   failed FAILED    UNCERTAIN abandoned delivered
fail+a0      -       known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
uncertain    -       known   UNCERTAIN UNCERTAIN UNCERTAIN UNCERTAIN stored  stored   failed UNCERTAIN UNCERTAIN abandoned delivered
uncertain+a0 -       known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
forget       -       ABANDONED claimed armed     claimed   armed     stored  stored   FAILED ABANDONED ABANDONED ABANDONED delivered
take+forget  -       ABANDONED ABANDONED ABANDONED ABANDONED ABANDONED stored stored  FAILED ABANDONED ABANDONED ABANDONED delivered
saved        -       known   claimed   armed     claimed   armed     STORED  STORED   failed uncertain uncertain abandoned DELIVERED
prune        -       known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
reserve      -       known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
bind         -       known   claimed   armed     claimed   armed     stored  stored   failed uncertain uncertain abandoned delivered
"""  # noqa: E501 - one line a move reads best


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
    done = job_step(entry, move, now)

    assert done is not None
    return done


def claim(attempt: str, **more: Any) -> Claim:
    return Claim(JOB, f"owner of {attempt}", attempt, LEASE, **more)


def armed(entry: LedgerEntry | None, attempt: str, **more: Any) -> LedgerEntry:
    """Return the entry after an attempt was claimed and armed."""
    held = take(entry, claim(attempt, **more))

    assert held.granted
    sent = take(held.entry, Arm(attempt, LEASE))

    assert sent.granted
    return sent.entry


@pytest.mark.parametrize(("column", "move", "word"), _rows())
@pytest.mark.parametrize("now", [NOW, NOW + 1e9, NOW - 1e9])
def test_every_move_from_every_state_is_as_in_the_table_at_any_time(
    column: str, move: str, word: str, now: float
) -> None:
    entry = ENTRIES[column]
    done = job_step(entry, MOVES[move], now)
    if word == "-":
        assert done is None
        return

    assert done is not None
    state = "deleted" if done.deleted else done.entry.state
    assert (word.lower(), word.isupper()) == (state, done.granted)
    assert JOB == done.entry.job
    assert is_held(done.entry) is (word.lower() in {"claimed", "armed"})
    if not is_held(done.entry):
        assert done.entry.owner is None
    if done.entry.state not in {"uncertain", "abandoned", "claimed", "armed"}:
        assert (None, None) == (done.entry.phase, done.entry.cause)
    if not done.granted and word == getattr(entry, "state", None):
        assert entry is done.entry or "take" in move  # so that a ledger need not write


def test_table_has_every_move_and_state() -> None:
    assert set(get_args(Move)) == {type(move) for move in MOVES.values()}
    assert set(get_args(LedgerState)) == {e.state for e in ENTRIES.values() if e is not None}
    assert len(ENTRIES) * len(MOVES) == len(_rows())


def test_move_of_another_type_is_refused() -> None:
    with pytest.raises(AssertionError, match="unreachable"):
        job_step(KNOWN, "claim", NOW)  # type: ignore[arg-type]  # it is the point


def test_former_name_of_a_move_is_still_importable() -> None:
    assert Uncertain is ledger.Doubt


def test_look_returns_the_same_object() -> None:
    for entry in filter(None, ENTRIES.values()):
        done = take(entry, Look(JOB))

        assert entry is done.entry


def test_claim_records_its_owner_and_lease() -> None:
    expected = attrs.evolve(
        KNOWN,
        state="claimed",
        since=NOW,
        owner="me",
        attempt="a2",
        lease_until=NOW + LEASE,
        lease=LEASE,
        resting="known",
    )

    assert Step(expected, granted=True) == job_step(KNOWN, _CLAIM, NOW)


@pytest.mark.parametrize("entry", [UNCERTAIN, STORED, ABANDONED, DELIVERED])
def test_decided_claim_records_the_earlier_attempt(entry: LedgerEntry) -> None:
    expected = attrs.evolve(
        entry,
        state="claimed",
        since=NOW,
        owner="me",
        attempt="a2",
        lease_until=NOW + LEASE,
        lease=LEASE,
        resting=entry.state,
        decided="a1",
    )

    assert expected == take(entry, attrs.evolve(_CLAIM, accept="a1")).entry


def test_decision_about_a_known_job_is_not_recorded() -> None:
    free = attrs.evolve(KNOWN, attempt="a1")

    assert take(free, attrs.evolve(_CLAIM, accept="a1")).entry.decided is None


def test_claim_of_a_new_job_adds_the_job() -> None:
    done = take(None, _CLAIM)

    assert (JOB, "claimed", "a2") == (done.entry.job, done.entry.state, done.entry.attempt)


def test_response_without_an_entry_is_stored() -> None:
    done = take(None, Store(JOB, "a1", b"paid"))

    assert ("stored", b"paid", JOB) == (done.entry.state, done.entry.body, done.entry.job)


# --- acknowledgement --------------------------------------------------------------------------


@pytest.mark.parametrize("acknowledged", [True, False])
def test_claim_says_whether_the_server_knows_the_job(*, acknowledged: bool) -> None:
    held = take(None, claim("a1", acknowledged=acknowledged)).entry
    freed = take(held, Release("a1")).entry
    again = take(freed, claim("a2", acknowledged=True)).entry

    assert acknowledged is held.acknowledged
    assert acknowledged is freed.acknowledged
    assert again.acknowledged


def test_acknowledged_job_stays_acknowledged() -> None:
    held = take(KNOWN, claim("a2")).entry

    assert held.acknowledged
    assert take(None, Remember(JOB)).entry.acknowledged


@pytest.mark.parametrize("entry", [KNOWN, CLAIMED, ARMED, UNCERTAIN])
def test_remembering_acknowledges_and_changes_nothing_else(entry: LedgerEntry) -> None:
    unheard = attrs.evolve(entry, acknowledged=False)

    assert Step(entry, granted=True) == take(unheard, Remember(JOB))


def test_known_job_gets_the_model_that_the_server_has_acknowledged() -> None:
    other = attrs.evolve(JOB, model="veo-4")
    remembered = take(KNOWN, Remember(other))
    claimed = take(KNOWN, attrs.evolve(_CLAIM, job=other, acknowledged=True))

    assert Step(attrs.evolve(KNOWN, job=other), granted=True) == remembered
    assert other == claimed.entry.job


def test_job_keeps_its_model_if_the_new_one_is_not_acknowledged() -> None:
    other = attrs.evolve(JOB, model="veo-4")

    assert JOB == take(KNOWN, attrs.evolve(_CLAIM, job=other)).entry.job


@pytest.mark.parametrize("entry", [CLAIMED, ARMED, UNCERTAIN, STORED])
def test_job_that_was_claimed_keeps_its_model(entry: LedgerEntry) -> None:
    other = attrs.evolve(JOB, model="veo-4")
    unheard = attrs.evolve(entry, acknowledged=False)
    decided = attrs.evolve(_CLAIM, job=other, accept="a1", takeover=ENDS, acknowledged=True)

    assert Step(entry, granted=False) == take(entry, Remember(other))
    assert Step(entry, granted=True) == take(unheard, Remember(other))
    if entry.state in {"uncertain", "stored"}:
        assert JOB == take(entry, decided).entry.job


# --- leases -----------------------------------------------------------------------------------


def test_arming_extends_the_lease() -> None:
    expected = attrs.evolve(ARMED, since=NOW, lease_until=NOW + 30, lease=30)

    assert expected == take(CLAIMED, Arm("a1", 30)).entry


@pytest.mark.parametrize("entry", [CLAIMED, ARMED])
def test_renewing_changes_only_the_lease(entry: LedgerEntry) -> None:
    done = take(entry, Renew("a1", 30))

    assert attrs.evolve(entry, lease_until=NOW + 30, lease=30) == done.entry


@pytest.mark.parametrize("clock", [[NOW], [NOW, NOW - 3600], [NOW, NOW - 20, NOW, NOW - 40]])
def test_no_two_leases_end_at_the_same_time(clock: list[float]) -> None:
    """Every renewal is visible, even if the clock stands still, is set back or jumps."""
    entry = take(KNOWN, claim("a1"), clock[0]).entry
    seen = [entry.lease_until]
    entry = take(entry, Arm("a1", LEASE), clock[-1]).entry
    seen.append(entry.lease_until)
    for number in range(20):
        entry = take(entry, Renew("a1", LEASE), clock[number % len(clock)]).entry
        seen.append(entry.lease_until)
    for end in (Release("a1"), Uncertain("b", "sent", "?"), Store(JOB, "b", BAD)):
        entry = armed(take(entry, end).entry, "b", accept=entry.attempt)
        seen.append(entry.lease_until)

    assert 25 == len(set(seen))
    assert sorted(seen) == seen


@pytest.mark.parametrize("asked", [1e9, 60.0, 5.0])
def test_no_lease_is_longer_than_the_longest(asked: float) -> None:
    given = min(asked, 60.0)
    for done in (
        take(KNOWN, attrs.evolve(_CLAIM, lease=asked)),
        take(CLAIMED, Arm("a1", asked)),
        take(attrs.evolve(ARMED, lease_until=NOW), Renew("a1", asked)),
    ):
        assert (given, max(NOW + given, done.entry.lease_until)) == (
            done.entry.lease,
            done.entry.lease_until,
        )
        assert done.entry.lease_until <= max(NOW + given, ENDS + 1e-6)


@pytest.mark.parametrize("now", [ENDS, ENDS + 1e9, NOW - 1e9])
def test_no_owner_is_gone_because_of_the_time_of_day(now: float) -> None:
    assert not take(CLAIMED, _CLAIM, now).granted
    assert not take(ARMED, attrs.evolve(_CLAIM, accept="a1"), now).granted
    assert take(CLAIMED, Arm("a1", LEASE), now).granted
    assert take(CLAIMED, Renew("a1", LEASE), now).granted


@pytest.mark.parametrize("held", [CLAIMED, ARMED, RECLAIMED, REARMED])
def test_renewed_lease_is_not_taken_over(held: LedgerEntry) -> None:
    renewed = take(held, Renew("a1", LEASE), NOW).entry
    late = attrs.evolve(_CLAIM, takeover=held.lease_until, accept="a1")

    assert Step(renewed, granted=False) == take(renewed, late)


def test_lease_in_the_far_future_can_be_taken_over() -> None:
    ahead = attrs.evolve(CLAIMED, lease_until=NOW + 1e9)

    assert take(ahead, attrs.evolve(_CLAIM, takeover=NOW + 1e9)).granted


# --- lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "state"), [(CLAIMED, "known"), (ARMED, "uncertain")])
def test_list_shows_a_lapsed_lease_as_an_owner_that_is_gone(
    entry: LedgerEntry, state: str
) -> None:
    assert entry is observed(entry, ENDS - 0.001)
    assert state == observed(entry, ENDS).state


def test_list_shows_a_lease_in_the_far_future_as_lapsed() -> None:
    """The clock was ahead when the lease was given."""

    assert ARMED is observed(ARMED, ENDS - LONGEST_LEASE)
    assert "uncertain" == observed(ARMED, ENDS - LONGEST_LEASE - 0.001).state


@pytest.mark.parametrize(
    "entry", [KNOWN, STORED, READABLE, FAILED, UNCERTAIN, ABANDONED, DELIVERED]
)
def test_entry_without_an_owner_is_listed_unchanged(entry: LedgerEntry) -> None:
    assert entry is observed(entry, NOW + 1e9)
    assert entry is observed(entry, NOW - 1e9)


@pytest.mark.parametrize(("now", "since"), [(ENDS + 5, ENDS), (ENDS - 100, ENDS - 100)])
def test_job_armed_by_a_client_that_is_gone_is_uncertain_with_a_cause(
    now: float, since: float
) -> None:
    entry = observed(ARMED, now)
    expected = attrs.evolve(UNCERTAIN, since=since, cause=GONE, lease_until=ENDS)

    assert expected == entry


# --- owners that come back --------------------------------------------------------------------


def test_late_response_of_a_paused_owner_is_stored() -> None:
    seen = take(ARMED, _TAKE)
    done = take(seen.entry, Store(JOB, "a1", GOOD))

    assert ("uncertain", False) == (seen.entry.state, seen.granted)
    expected = attrs.evolve(READABLE, since=NOW, lease_until=ENDS, lease=LEASE)

    assert Step(expected, granted=True) == done


@pytest.mark.parametrize("proof", [Release("a1"), Fail("nsfw", "a1")])
def test_proof_counts_after_its_owner_was_declared_gone(proof: Move) -> None:
    seen = take(ARMED, _TAKE).entry
    done = take(seen, proof)

    assert done.granted
    assert {"Release": "known", "Fail": "failed"}[type(proof).__name__] == done.entry.state


def test_paused_owner_cannot_change_the_claim_of_another() -> None:
    taken = take(CLAIMED, _TAKE).entry

    assert ("claimed", "a2", "known") == (taken.state, taken.attempt, taken.resting)
    for move in (
        Arm("a1", LEASE),
        Renew("a1", LEASE),
        Release("a1"),
        Fail("nsfw", "a1"),
        Uncertain("a1", "sent", "?"),
    ):
        assert Step(taken, granted=False) == take(taken, move)

    assert take(taken, Arm("a2", LEASE)).granted


def test_paused_owner_cannot_arm_a_job_that_awaits_a_decision() -> None:
    rested = take(RECLAIMED, _TAKE)

    assert ("uncertain", "a0", False) == (
        rested.entry.state,
        rested.entry.attempt,
        rested.granted,
    )
    assert not take(rested.entry, Arm("a1", LEASE)).granted


# --- decisions --------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [UNCERTAIN, STORED, ABANDONED, DELIVERED])
def test_decision_is_about_one_outcome_only(entry: LedgerEntry) -> None:
    """A later outcome than the one that the user decided about is not given up."""

    assert take(entry, attrs.evolve(_CLAIM, accept="a1")).granted
    assert not take(entry, attrs.evolve(_CLAIM, accept="a9")).granted


def test_claim_without_a_decision_does_not_match_an_entry_without_an_attempt() -> None:
    dropped = attrs.evolve(UNCERTAIN, attempt=None)

    assert not take(dropped, _CLAIM).granted


def test_decision_is_void_once_it_has_been_acted_on() -> None:
    again = claim("a3", accept="a1")
    sent = armed(UNCERTAIN, "a2", accept="a1")
    open_ = take(sent, Uncertain("a2", "sent", "reset")).entry
    unreadable = take(sent, Store(JOB, "a2", BAD)).entry

    for entry in (sent, open_, unreadable):
        assert Step(entry, granted=False) == take(entry, again)


@pytest.mark.parametrize("entry", [UNCERTAIN, STORED, ABANDONED, DELIVERED])
@pytest.mark.parametrize("proof", [Release("a2"), Fail("nsfw", "a2")])
@pytest.mark.parametrize("arm", [True, False])
def test_unbilled_decided_call_restores_the_earlier_outcome(
    entry: LedgerEntry, proof: Move, *, arm: bool
) -> None:
    held = take(entry, claim("a2", accept="a1")).entry
    held = take(held, Arm("a2", LEASE)).entry if arm else held
    done = take(held, proof)
    expected = attrs.evolve(
        entry,
        since=NOW,
        lease_until=held.lease_until,
        lease=LEASE,
        resting=entry.state,
        decided="a1",
    )
    if entry.state not in {"uncertain", "abandoned"}:
        expected = attrs.evolve(expected, phase=None, cause=None)

    assert Step(expected, granted=True) == done


@pytest.mark.parametrize("entry", [UNCERTAIN, STORED, ABANDONED, DELIVERED])
@pytest.mark.parametrize("late", ["a1", "a2"])
@pytest.mark.parametrize("gone", [True, False])
def test_proof_recorded_twice_after_a_decision_releases_nothing(
    entry: LedgerEntry, late: str, *, gone: bool
) -> None:
    sent = armed(entry, "a2", accept="a1")
    if gone:
        sent = take(sent, claim("x", takeover=sent.lease_until)).entry
    once = take(sent, Release("a2")).entry
    twice = take(once, Release(late)).entry
    thrice = take(twice, Fail("nsfw", late)).entry

    assert entry.state == once.state
    assert entry.state == twice.state
    assert entry.state == thrice.state
    assert not take(thrice, claim("a3")).granted


def test_uncertain_second_call_is_not_hidden_by_an_old_response() -> None:
    """Paid but unreadable, then uncertain: an unbilled third call settles neither."""
    second = armed(STORED, "a2", accept="a1")
    second = take(second, Uncertain("a2", "sent", "reset")).entry
    third = take(second, claim("a3", accept="a2")).entry
    rested = take(third, Release("a3")).entry

    assert ("uncertain", "a2", BAD, "reset") == (
        rested.state,
        rested.attempt,
        rested.body,
        rested.cause,
    )


@pytest.mark.parametrize(
    ("lost", "state"),
    [
        (attrs.evolve(RECLAIMED, resting=None), "uncertain"),
        (attrs.evolve(CLAIMED, resting=None, body=BAD), "stored"),
        (attrs.evolve(CLAIMED, resting=None), "known"),
        (attrs.evolve(ARMED, resting=None), "known"),
        (attrs.evolve(UNCERTAIN, resting=None), "uncertain"),
    ],
)
def test_entry_without_its_resting_state_is_not_released_if_it_may_be_billed(
    lost: LedgerEntry, state: str
) -> None:
    free = "failed" if state == "known" else state

    assert state == take(lost, Release("a1")).entry.state
    assert free == take(lost, Fail("nsfw", "a1")).entry.state


# --- responses --------------------------------------------------------------------------------


def test_storing_clears_an_uncertain_outcome() -> None:
    sent = armed(UNCERTAIN, "a2", accept="a1")
    done = take(sent, Store(JOB, "a2", GOOD))
    expected = LedgerEntry(
        job=JOB,
        state="stored",
        since=NOW,
        attempt="a2",
        lease_until=sent.lease_until,
        lease=LEASE,
        body=GOOD,
    )

    assert Step(expected, granted=True) == done


@pytest.mark.parametrize("move", ["good a0", "bad a0", "bad"])
def test_readable_response_is_not_replaced(move: str) -> None:
    assert Step(READABLE, granted=False) == take(READABLE, MOVES[move])


def test_readable_response_is_never_paid_for_again() -> None:
    for attempt in ("a0", "a1", None):
        paying = attrs.evolve(_CLAIM, accept=attempt, takeover=0.0)

        assert Step(READABLE, granted=False) == take(READABLE, paying)


@pytest.mark.parametrize("first", [GOOD, BAD])
@pytest.mark.parametrize("base", [STORED, UNCERTAIN])
def test_readable_response_replaces_an_unreadable_one_in_any_order(
    base: LedgerEntry, first: bytes
) -> None:
    """One is the response of the decided call, the other a late one of the earlier call."""
    second = {GOOD: BAD, BAD: GOOD}[first]
    sent = armed(base, "a2", accept="a1")
    entry = take(sent, Store(JOB, "a1", first)).entry
    entry = take(entry, Store(JOB, "a2", second)).entry

    assert ("stored", GOOD) == (entry.state, entry.body)
    assert ("a1" if first == GOOD else "a2") == entry.attempt
    assert not take(entry, claim("a3", accept=entry.attempt)).granted


@pytest.mark.parametrize("second", [GOOD, BAD])
def test_first_of_two_equally_readable_responses_stays(second: bytes) -> None:
    entry = attrs.evolve(STORED, body=second)

    assert Step(entry, granted=False) == take(entry, Store(JOB, "a0", second + b" "))


@pytest.mark.parametrize("held", [RECLAIMED, REARMED])
def test_unreadable_late_response_does_not_displace_the_call_in_progress(
    held: LedgerEntry,
) -> None:
    kept = take(held, Store(JOB, "a0", BAD))
    rested = take(kept.entry, Release("a1")).entry
    paid = take(kept.entry, Store(JOB, "a1", GOOD)).entry

    assert Step(attrs.evolve(held, body=BAD, resting="stored"), granted=True) == kept
    assert ("stored", "a0", BAD) == (rested.state, rested.attempt, rested.body)
    assert not take(rested, _CLAIM).granted
    assert ("stored", "a1", GOOD) == (paid.state, paid.attempt, paid.body)


def test_readable_late_response_ends_the_decided_claim() -> None:
    done = take(RECLAIMED, Store(JOB, "a0", GOOD)).entry

    assert ("stored", "a0", GOOD) == (done.state, done.attempt, done.body)
    assert not take(done, Arm("a1", LEASE)).granted


@pytest.mark.parametrize("held", [RECLAIMED, REARMED])
def test_unreadable_response_of_the_call_in_progress_ends_it(held: LedgerEntry) -> None:
    """A call that was repeated because of an unreadable response got another one."""
    entry = take(attrs.evolve(held, body=BAD), Store(JOB, "a1", BAD + b" ")).entry

    assert ("stored", "a1", BAD + b" ") == (entry.state, entry.attempt, entry.body)


def test_same_response_can_be_stored_again() -> None:
    assert take(STORED, Store(JOB, "a1", BAD)).granted
    assert take(READABLE, Store(JOB, "a1", GOOD)).granted


def test_response_about_another_job_is_not_readable() -> None:
    foreign = json.dumps(completed(request_id="req-2")).encode()
    stored = take(ARMED, Store(JOB, "a1", foreign)).entry

    assert take(stored, attrs.evolve(_CLAIM, accept="a1")).granted


def test_repr_of_a_move_has_no_body() -> None:
    assert "secret" not in repr(Store(JOB, "a1", b"secret"))


# --- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [CLAIMED, ARMED])
def test_release_changes_only_state_and_owner(entry: LedgerEntry) -> None:
    expected = attrs.evolve(entry, state="known", since=NOW, owner=None)

    assert Step(expected, granted=True) == take(entry, Release("a1"))


@pytest.mark.parametrize("entry", [KNOWN, UNCERTAIN, STORED, ABANDONED, DELIVERED])
def test_claim_of_a_dead_owner_leaves_the_state_before_it(entry: LedgerEntry) -> None:
    """The next client must see what is open, not the claim."""
    held = take(entry, claim("a2", accept="a1")).entry
    next_ = take(held, claim("a3", takeover=held.lease_until))

    assert entry.state == observed(held, held.lease_until).state
    assert (entry.state == "known") is next_.granted
    assert ("claimed" if next_.granted else entry.state) == next_.entry.state


def test_only_a_paid_response_changes_a_failed_job() -> None:
    for name, move in MOVES.items():
        expected = "stored" if isinstance(move, Store) else "failed"

        assert expected == take(FAILED, move).entry.state, name


@pytest.mark.parametrize("entry", [CLAIMED, ARMED, UNCERTAIN])
def test_failure_is_recorded_with_the_servers_text(entry: LedgerEntry) -> None:
    expected = attrs.evolve(
        entry,
        state="failed",
        since=NOW,
        owner=None,
        phase=None,
        cause=None,
        error="nsfw",
    )

    assert Step(expected, granted=True) == take(entry, Fail("nsfw", "a1"))


@pytest.mark.parametrize("entry", [ARMED, UNCERTAIN])
def test_uncertain_call_records_how_far_it_got(entry: LedgerEntry) -> None:
    done = take(entry, Uncertain("a1", "answered", "HTTP 504"))
    expected = attrs.evolve(
        entry,
        state="uncertain",
        since=NOW,
        owner=None,
        phase="answered",
        cause="HTTP 504",
    )

    assert Step(expected, granted=True) == done


def test_saved_mark_stays_the_first_one_and_goes_with_another_body() -> None:
    first = take(STORED, MarkSaved()).entry
    again = take(first, MarkSaved(), NOW + 10)
    repeated = take(again.entry, Store(JOB, "a1", BAD)).entry
    refetched = take(again.entry, Store(JOB, "a0", GOOD)).entry

    assert NOW == first.saved_at
    assert again.granted
    assert first is again.entry
    assert NOW == repeated.saved_at
    assert refetched.saved_at is None


@pytest.mark.parametrize(
    ("before", "state", "body"), [(NOW - 1, "stored", BAD), (NOW, "delivered", None)]
)
def test_prune_drops_the_body_of_what_was_saved_by_then(
    before: float, state: str, body: bytes | None
) -> None:
    saved = take(STORED, MarkSaved()).entry

    done = take(saved, Prune(before), NOW + 10)

    assert (state, body) == (done.entry.state, done.entry.body)
    assert (body is None) is done.granted
    assert (NOW, "a1") == (done.entry.saved_at, done.entry.attempt)


@pytest.mark.parametrize("entry", [CLAIMED, ARMED], ids=lambda entry: entry.state)
def test_job_that_the_server_never_knew_leaves_nothing_behind(entry: LedgerEntry) -> None:
    unheard = attrs.evolve(entry, acknowledged=False)

    assert not take(unheard, Release("a1")).deleted
    assert take(unheard, Release("a1", unknown=True)).deleted
    assert not take(unheard, Release("a0", unknown=True)).deleted


def test_job_that_may_be_paid_for_stays_whatever_the_server_says() -> None:
    unheard = attrs.evolve(REARMED, acknowledged=False)

    done = take(unheard, Release("a1", unknown=True))

    assert ("uncertain", False) == (done.entry.state, done.deleted)


@pytest.mark.parametrize(
    "entry", [KNOWN, UNCERTAIN, DOUBLE], ids=["known", "uncertain", "double"]
)
def test_abandoned_job_voids_every_earlier_decision(entry: LedgerEntry) -> None:
    """Also one of a client that refetches, and a claim on its way to a slow ledger."""
    given_up = take(entry, Forget("req-1")).entry
    late = [claim("b"), claim("b", accept=entry.attempt), claim("b", accept="a1")]

    decided = take(given_up, claim("b", accept=given_up.attempt))
    released = take(decided.entry, Release("b")).entry

    assert [False] * 3 == [take(given_up, move).granted for move in late]
    assert decided.granted
    assert ("abandoned", entry.phase, entry.cause) == (
        released.state,
        released.phase,
        released.cause,
    )
    assert "stored" == take(given_up, Store(JOB, "a1", GOOD)).entry.state


@pytest.mark.parametrize("last", [math.inf, -math.inf, math.nan, sys.float_info.max])
def test_lease_after_an_absurd_one_is_a_usual_one(last: float) -> None:
    assert (1010.0, 10.0) == later_lease(last, 10.0, 1000.0)


def test_lease_stays_later_than_the_last_one_and_short() -> None:
    until, length = later_lease(2000.0, math.inf, 1000.0)

    assert until > 2000.0
    assert LONGEST_LEASE == length

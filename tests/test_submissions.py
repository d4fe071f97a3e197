"""The state machine of a submit's key, without I/O."""

from __future__ import annotations

import attrs
import pytest
from strategies import JOB, NOW

from modelmax_async import LedgerError
from modelmax_async.ledger import (
    Arm,
    Bind,
    Forget,
    Key,
    Look,
    MemoryLedger,
    Move,
    Release,
    Renew,
    Reserve,
    Submission,
    SubmitKey,
    SubmitStep,
    Uncertain,
    as_known,
    step,
)
from modelmax_async.ledger.submissions import submit_step

LEASE = 12.0
ENDS = NOW + 7.0
MINE = attrs.evolve(JOB, submitted_at=NOW - 3.0, key="row-17")
THEIRS = attrs.evolve(MINE, request_id="req-2")

RESERVED = Submission(
    fingerprint="print", since=NOW - 5.0, attempt="a1", lease_until=ENDS, lease=LEASE
)
OPEN = attrs.evolve(RESERVED, attempt=None)
BOUND = attrs.evolve(OPEN, since=NOW - 3.0, job=MINE)
ROWS: dict[str, Submission | None] = {
    "none": None,
    "reserved": RESERVED,
    "open": OPEN,
    "bound": BOUND,
}
MOVES: dict[str, Move] = {
    "reserve": Reserve("print", "a2", LEASE),
    "take": Reserve("print", "a2", LEASE, ENDS),
    "stale": Reserve("print", "a2", LEASE, ENDS - 1),
    "other": Reserve("another print", "a2", LEASE, ENDS),
    "bind": Bind("print", "a1", MINE),
    "bind_a0": Bind("print", "a0", MINE),
    "theirs": Bind("print", "a1", THEIRS),
    "odd": Bind("another print", "a1", MINE),
    "renew": Renew("a1", LEASE),
    "renew_a0": Renew("a0", LEASE),
    "uncertain": Uncertain("a1", "sent", "reset"),
    "uncertain_a0": Uncertain("a0", "sent", "reset"),
    "release": Release("a1"),
    "release_a0": Release("a0"),
    "forget": Forget("req-1"),
    "forget_theirs": Forget("req-2"),
    "look": Look(JOB),
    "arm": Arm("a1", LEASE),
}
#: The submission after each move, in capitals if the move was granted. ``a1`` is the attempt
#: that reserved the key; ``take`` takes over the current lease, ``stale`` an earlier one.
TABLE = """
              none     reserved open     bound
reserve       RESERVED reserved RESERVED bound
take          RESERVED RESERVED RESERVED bound
stale         RESERVED reserved RESERVED bound
other         RESERVED reserved open     bound
bind          BOUND    BOUND    BOUND    BOUND
bind_a0       BOUND    BOUND    BOUND    BOUND
theirs        BOUND    BOUND    BOUND    bound
odd           BOUND    reserved open     bound
renew         -        RESERVED open     bound
renew_a0      -        reserved open     bound
uncertain     -        OPEN     open     bound
uncertain_a0  -        reserved open     bound
release       -        DELETED  open     bound
release_a0    -        reserved open     bound
forget        -        reserved open     DELETED
forget_theirs -        reserved open     bound
look          -        reserved open     bound
arm           -        reserved open     bound
"""


def _cases() -> list[tuple[str, str, str]]:
    head, *lines = TABLE.strip().splitlines()
    assert head.split() == list(ROWS)
    named = {line.split()[0]: line.split()[1:] for line in lines}
    assert set(MOVES) == set(named)
    return [
        (row, m, word)
        for m, words in named.items()
        for row, word in zip(ROWS, words, strict=True)
    ]


def _state(done: SubmitStep) -> str:
    if done.deleted:
        return "deleted"
    if done.entry.job is not None:
        return "bound"
    return "open" if done.entry.attempt is None else "reserved"


def take(entry: Submission | None, move: Move, now: float = NOW) -> SubmitStep:
    done = submit_step(entry, move, now)

    assert done is not None
    return done


@pytest.mark.parametrize(("row", "move", "word"), _cases())
@pytest.mark.parametrize("now", [NOW, NOW + 1e9, NOW - 1e9])
def test_every_move_of_a_key_is_as_in_the_table_at_any_time(
    row: str, move: str, word: str, now: float
) -> None:
    entry = ROWS[row]
    done = submit_step(entry, MOVES[move], now)
    if word == "-":
        assert done is None
        return

    assert done is not None
    assert (word.lower(), word.isupper()) == (_state(done), done.granted)
    if not done.granted:
        assert entry is done.entry  # so that a ledger need not write


def test_first_job_that_is_recorded_wins() -> None:
    late = take(BOUND, Bind("print", "a2", THEIRS))

    assert (MINE, False) == (late.entry.job, late.granted)


def test_late_job_of_a_key_that_was_given_to_another_request_is_refused() -> None:
    again = take(None, Reserve("another print", "b1", LEASE)).entry

    late = take(again, Bind("print", "a1", MINE))

    assert ("another print", None, False) == (
        late.entry.fingerprint,
        late.entry.job,
        late.granted,
    )


def test_bound_job_has_the_time_of_its_submit() -> None:
    timeless = attrs.evolve(MINE, submitted_at=None)

    bound = take(RESERVED, Bind("print", "a1", timeless)).entry

    assert attrs.evolve(MINE, submitted_at=NOW) == bound.job
    assert (NOW, None) == (bound.since, bound.attempt)


@pytest.mark.parametrize("now", [NOW, NOW - 1e9])
def test_each_lease_of_a_key_ends_later_than_the_last(now: float) -> None:
    renewed = take(RESERVED, Renew("a1", LEASE), now).entry
    taken = take(renewed, Reserve("print", "a2", LEASE, renewed.lease_until), now).entry

    assert ENDS < renewed.lease_until < taken.lease_until
    assert "a2" == taken.attempt


def test_only_a_bound_submission_stands_for_a_known_job() -> None:
    known = as_known(BOUND)

    assert as_known(RESERVED) is None
    assert known is not None
    assert (MINE, "known", True) == (known.job, known.state, known.acknowledged)


def test_one_step_serves_jobs_and_keys() -> None:
    reserved = step(None, MOVES["reserve"], NOW)

    assert isinstance(reserved, SubmitStep)
    assert take(reserved.entry, Release("a2")) == step(reserved.entry, Release("a2"), NOW)
    assert step(None, Look(JOB), NOW) is None


def test_key_of_a_submit_is_never_that_of_a_job() -> None:
    rows: dict[object, str] = {Key("https://x", "a"): "job", SubmitKey("https://x", "a"): "key"}

    assert 2 == len(rows)


@pytest.mark.anyio
async def test_full_memory_ledger_forgets_no_key() -> None:
    ledger = MemoryLedger(max_entries=2)
    for name in ("a", "b"):
        await ledger.apply(SubmitKey("https://x", name), Reserve("print", name, LEASE))

    with pytest.raises(LedgerError, match="has 2 keys of submits"):
        await ledger.apply(SubmitKey("https://x", "c"), Reserve("print", "c", LEASE))
    renewed = await ledger.apply(SubmitKey("https://x", "a"), Renew("a", LEASE))

    assert renewed is not None
    assert renewed.granted

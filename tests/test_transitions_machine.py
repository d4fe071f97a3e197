"""Owners that claim, crash, hang and return late: never a second charge without consent."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Literal

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from strategies import JOB, NOW, completed

from modelmax_async import LedgerEntry
from modelmax_async._api.endpoints import is_readable
from modelmax_async.ledger.attempts import is_held, observed
from modelmax_async.ledger.moves import (
    Arm,
    Claim,
    Fail,
    Look,
    Move,
    Release,
    Remember,
    Renew,
    Store,
    Uncertain,
)
from modelmax_async.ledger.transitions import Step, job_step

#: Coverage makes them several times slower, and finds nothing that others do not.
pytestmark = pytest.mark.untraced
LEASE = 12.0
ENDS = ["paid", "paid", "garbled", "free", "failed", "broken", "cancelled", "crashed"]
#: Seconds that a clock may advance between two moves: it can stand still, jump or be set back.
TICKS = [0.0, 0.0, 3.0, 12.0, -12.0, 3600.0, -3600.0]
DECIDE = ["no", "yes", "yes", "stale"]
End = Literal["paid", "garbled", "free", "failed", "broken", "cancelled", "crashed"]
pick = st.integers(0, 3)


@attrs.define
class Attempt:
    """The attempt of one owner. An owner that no rule picks for a while hangs."""

    name: str
    decided: bool

    def body(self, end: End) -> bytes:
        """Return the response of the server."""
        return (
            self.name.encode()
            if end == "garbled"
            else json.dumps(completed(self.name)).encode()
        )


@attrs.frozen
class Watch:
    """A lease as another client saw it, and how often its owner had renewed it by then."""

    attempt: str
    lease_until: float
    signs: int


class BilledOnce(RuleBasedStateMachine):
    """One job, its ledger entry, several owners, and what the server has really billed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.entry: LedgerEntry | None = None
        self.fails = False
        self.claimed: list[Attempt] = []
        self.armed: list[Attempt] = []
        self.ended: list[Move] = []
        self.number = 0
        self.decisions = 0
        self.sent: list[Attempt] = []
        self.free: list[str] = []
        self.arrived: set[bytes] = set()
        self.signs: dict[str, int] = {}
        self.watch: Watch | None = None

    @initialize(fails=st.integers(0, 5))
    def the_job_ends(self, fails: int) -> None:
        self.fails = fails == 0

    def apply(self, move: Move) -> Step | None:
        """Apply a move as a ledger does, and check what no move may do."""
        before, done = self.entry, job_step(self.entry, move, self.now)
        if done is None:
            assert before is None
            return None
        self.entry = done.entry
        if before is not None:
            self._check_change(before, done, move)
        if done.granted and isinstance(move, Claim | Arm | Renew):
            self.signs[move.attempt] = self.signs.get(move.attempt, 0) + 1
        return done

    def _check_change(self, before: LedgerEntry, done: Step, move: Move) -> None:
        after = done.entry
        gone = isinstance(move, Claim) and is_held(before) and after is not before
        if gone:
            assert self.watch is not None
            assert self.watch.signs == self.signs[self.watch.attempt]  # no sign since
            assert before.attempt == self.watch.attempt
        elif not done.granted:
            assert before is after
        elif isinstance(move, Arm | Renew | Release | Uncertain):
            assert before.attempt == move.attempt
        if isinstance(move, Arm | Renew) and done.granted:
            assert after.lease_until > before.lease_until
        asked = isinstance(move, Claim) and move.accept is not None and done.granted
        if before.state in {"uncertain", "stored", "abandoned"} and not asked:
            proof = isinstance(move, Release | Fail) and move.attempt == before.attempt

            assert after.state in {before.state, "stored"} or proof
        if before.state == "armed" and after.state in {"known", "claimed"}:
            assert asked or (isinstance(move, Release) and move.attempt == before.attempt)
        if before.state == "failed":
            assert "failed" == after.state or isinstance(move, Store)
        if before.body is not None and is_readable(before.body, JOB):
            assert ("stored", before.body) == (after.state, after.body)

    @property
    def unproven(self) -> list[Attempt]:
        """Return the calls that were sent and are not proven to be unbilled."""
        return [attempt for attempt in self.sent if attempt.name not in self.free]

    @rule(
        owner=pick, decide=st.sampled_from(DECIDE), then_arm=st.booleans(), gone=st.booleans()
    )
    def claim(self, owner: int, decide: str, *, then_arm: bool, gone: bool) -> None:
        """An owner claims the call, with or without a decision of the user."""
        self.number += 1
        latest = None if self.entry is None else self.entry.attempt
        accept = {"no": None, "yes": latest, "stale": f"a{self.number // 2}"}[decide]
        takeover = self.watch.lease_until if gone and self.watch else None
        name = f"a{self.number}"
        done = self.apply(Claim(JOB, f"owner {owner}", name, LEASE, accept, takeover))

        assert done is not None
        if not done.granted:
            return
        decided = done.entry.decided is not None
        attempt = Attempt(name, decided)

        assert decided or not self.unproven
        assert (accept if decided else None) == done.entry.decided
        assert (name, f"owner {owner}") == (done.entry.attempt, done.entry.owner)
        self.decisions += decided
        self.claimed.append(attempt)
        if then_arm:
            self.arm(-1)

    @precondition(lambda self: self.entry is not None and is_held(self.entry))
    @rule()
    def see_the_lease(self) -> None:
        """Another client reads the lease; it may find the same value again later."""
        done = self.apply(Look(JOB))

        assert done is not None
        assert done.entry.attempt is not None
        name = done.entry.attempt
        self.watch = Watch(name, done.entry.lease_until, self.signs[name])

    @precondition(lambda self: self.watch is not None)
    @rule(owner=pick, decide=st.sampled_from(DECIDE), then_arm=st.booleans())
    def overtake(self, owner: int, decide: str, *, then_arm: bool) -> None:
        """Another client declares the owner gone: rightly, or because it hangs."""
        self.claim(owner, decide, then_arm=then_arm, gone=True)

    @precondition(lambda self: self.claimed)
    @rule(number=pick)
    def arm(self, number: int) -> None:
        attempt = self.claimed.pop(number % len(self.claimed))
        done = self.apply(Arm(attempt.name, LEASE))

        assert done is not None
        if done.granted:
            assert attempt not in self.sent
            assert attempt.decided or not self.unproven
            self.sent.append(attempt)
            self.armed.append(attempt)
        else:
            self.ended.append(Release(attempt.name))  # its owner may repeat it

    @precondition(lambda self: self.claimed)
    @rule(number=pick, crash=st.booleans())
    def give_up(self, number: int, *, crash: bool) -> None:
        """An owner is cancelled, fails to connect, or crashes before the first byte."""
        attempt = self.claimed.pop(number % len(self.claimed))
        if not crash:
            self._say(Release(attempt.name))

    @precondition(lambda self: self.armed)
    @rule(number=pick, end=st.sampled_from(ENDS))
    def end(self, number: int, end: End) -> None:
        """A call that was sent gets a response, breaks off, or loses its owner."""
        attempt = self.armed.pop(number % len(self.armed))
        if end in {"paid", "garbled"} and not self.fails:
            body = attempt.body(end)
            self.arrived.add(body)
            self._say(Store(JOB, attempt.name, body))
        elif end == "failed" and self.fails:
            self.free.append(attempt.name)
            self._say(Fail("no", attempt.name))
        elif end == "free":
            self.free.append(attempt.name)
            self._say(Release(attempt.name))
        elif end in {"broken", "cancelled"}:
            self._say(Uncertain(attempt.name, "sent", end))

    def _say(self, move: Move) -> None:
        self.ended.append(move)
        self.apply(move)

    @precondition(lambda self: self.ended)
    @rule(number=st.integers(0, 20))
    def say_it_again(self, number: int) -> None:
        """A move whose confirmation was lost is repeated at any later time."""
        self.apply(self.ended[number % len(self.ended)])

    @precondition(lambda self: self.claimed or self.armed)
    @rule(number=pick)
    def beat(self, number: int) -> None:
        alive = self.claimed + self.armed
        self.apply(Renew(alive[number % len(alive)].name, LEASE))

    @precondition(lambda self: self.fails)
    @rule()
    def status_says_failed(self) -> None:
        self.apply(Fail("no"))

    @rule(seconds=st.sampled_from(TICKS), remember=st.booleans())
    def time_passes(self, seconds: float, *, remember: bool) -> None:
        """Clocks are unreliable; lists that use them change nothing."""
        self.now += seconds
        if self.entry is not None:
            before = self.entry.state
            shown = observed(self.entry, self.now).state

            assert before == shown or is_held(self.entry)
        if remember:
            self.apply(Remember(JOB))

    @invariant()
    def charges_are_bounded_by_decisions(self) -> None:
        assert len(self.unproven) <= 1 + self.decisions
        assert sum(not attempt.decided for attempt in self.unproven) <= 1

    @invariant()
    def every_paid_response_is_kept(self) -> None:
        if self.arrived:
            assert self.entry is not None
            assert self.entry.body in self.arrived
        if any(is_readable(body, JOB) for body in self.arrived):
            assert self.entry is not None
            assert "stored" == self.entry.state
            assert self.entry.body is not None
            assert is_readable(self.entry.body, JOB)

    @invariant()
    def what_was_sent_is_never_forgotten(self) -> None:
        """Without a proof or a decision, no client can claim a call that was sent."""
        if self.unproven and not self.fails:
            done = job_step(self.entry, Claim(JOB, "x", "x", LEASE), self.now)

            assert done is not None
            assert not done.granted
            assert done.entry.state != "claimed" or done.entry.resting != "known"


BilledOnce.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
TestBilledOnce = BilledOnce.TestCase


def _walk(machine: BilledOnce, chance: Random) -> None:
    """Take a random rule whose precondition holds."""
    number = chance.randrange(4)
    steps: list[Callable[[], None]] = [
        lambda: machine.claim(
            number, chance.choice(DECIDE), then_arm=chance.random() < 0.5, gone=False
        ),
        lambda: machine.time_passes(chance.choice(TICKS), remember=number > 1),
    ]
    if machine.claimed:
        steps += [
            lambda: machine.arm(number),
            lambda: machine.arm(number),
            lambda: machine.give_up(number, crash=chance.random() < 0.5),
        ]
    if machine.armed:
        steps += [lambda: machine.end(number, chance.choice(ENDS))]
    if machine.claimed or machine.armed:
        steps += [lambda: machine.beat(number), lambda: machine.beat(number)]
    if machine.entry is not None and is_held(machine.entry):
        steps += [machine.see_the_lease]
    if machine.watch is not None:
        steps += [
            lambda: machine.overtake(
                number, chance.choice(DECIDE), then_arm=chance.random() < 0.5
            )
        ]
    if machine.ended:
        steps += [lambda: machine.say_it_again(chance.randrange(20))]
    if machine.fails:
        steps += [machine.status_says_failed]
    chance.choice(steps)()


@pytest.mark.timeout(90)  # coverage makes it ten times slower
def test_thousands_of_random_walks_bill_once() -> None:
    """The same machine with fixed seeds and without shrinking covers more in less time."""
    for seed in range(1200):
        chance = Random(seed)
        machine = BilledOnce()
        machine.the_job_ends(chance.randrange(6))
        for _ in range(40):
            _walk(machine, chance)
            machine.charges_are_bounded_by_decisions()
            machine.every_paid_response_is_kept()
            machine.what_was_sent_is_never_forgotten()

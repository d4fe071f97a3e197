"""Owners that claim, crash, stand still and come back late: never a second unasked charge."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from strategies import JOB, NOW

from modelmax_async import LedgerEntry
from modelmax_async._lifecycle import (
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

LEASE = 12.0
End = Literal["paid", "free", "failed", "broken", "cancelled", "crashed"]
pick = st.integers(0, 3)
ends = st.sampled_from(["paid", "paid", "free", "failed", "broken", "cancelled", "crashed"])


@attrs.define
class Attempt:
    """One owner's attempt. An owner that no rule picks for a while is one that stands still."""

    name: str
    decided: bool

    @property
    def body(self) -> bytes:
        """What the server answers to it."""
        return self.name.encode()


class BilledOnce(RuleBasedStateMachine):
    """One job, its ledger entry, several owners, and what the server has really billed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.entry: LedgerEntry | None = None
        self.fails = False
        self.claimed: list[Attempt] = []
        self.armed: list[Attempt] = []
        self.ended: list[Attempt] = []
        self.number = 0
        self.decisions = 0
        self.sent: list[Attempt] = []
        self.free: list[Attempt] = []
        self.arrived: set[bytes] = set()
        self.decided_since_answer = False

    @initialize(fails=st.integers(0, 5))
    def the_job_ends(self, fails: int) -> None:
        self.fails = fails == 0

    def apply(self, move: Move) -> Step | None:
        """Do what a ledger does, and check what no move may do."""
        before, done = self.entry, step(self.entry, move, self.now)
        if done is None:
            assert before is None
            return None
        self.entry = done.entry
        if before is not None:
            self._check_change(before, done, move)
        return done

    def _check_change(self, before: LedgerEntry, done: Step, move: Move) -> None:
        after = done.entry
        if not done.granted:
            assert after in {before, observed(before, self.now)}
        elif isinstance(move, Arm | Renew | Release | Doubt):
            assert before.attempt == move.attempt
        asked = isinstance(move, Claim) and move.accept is not None and done.granted
        if before.state == "stored" and not asked:
            assert (before.state, before.body) == (after.state, after.body)
        if before.state == "uncertain" and not asked:
            assert after.state in {"uncertain", "stored", "failed"}
        if before.state == "armed" and after.state in {"known", "claimed"}:
            assert asked or (isinstance(move, Release) and move.attempt == before.attempt)
        if before.state == "failed":
            assert after.state == "failed" or isinstance(move, Store)

    @property
    def unproven(self) -> list[Attempt]:
        """What went to the server, less what provably cost nothing."""
        return [attempt for attempt in self.sent if attempt not in self.free]

    @rule(owner=pick, decide=st.sampled_from(["yes", "no", "stale"]), then_arm=st.booleans())
    def claim(self, owner: int, decide: str, *, then_arm: bool) -> None:
        """An owner wants to make the call; a user may have decided about an outcome."""
        self.number += 1
        seen = None if self.entry is None else observed(self.entry, self.now)
        open_outcome = seen is not None and seen.state in {"uncertain", "stored"}
        attempt = Attempt(f"a{self.number}", decided=open_outcome and decide == "yes")
        latest = None if seen is None else seen.attempt
        accept = {"no": None, "yes": latest, "stale": "a0"}[decide]
        done = self.apply(Claim(JOB, f"owner {owner}", attempt.name, LEASE, accept))
        assert done is not None
        if not done.granted:
            return
        assert attempt.decided or not self.unproven
        assert (done.entry.attempt, done.entry.owner) == (attempt.name, f"owner {owner}")
        self.decisions += attempt.decided
        self.decided_since_answer |= attempt.decided
        self.claimed.append(attempt)
        if then_arm:
            self.arm(-1)

    @precondition(lambda self: self.claimed or self.armed)
    @rule(owner=pick, then_arm=st.booleans())
    def overtake(self, owner: int, *, then_arm: bool) -> None:
        """Owners stand still past their lease, and somebody else takes the job over."""
        self.now += LEASE
        self.claim(owner, "yes", then_arm=then_arm)

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

    @precondition(lambda self: self.claimed)
    @rule(number=pick, crash=st.booleans())
    def give_up(self, number: int, *, crash: bool) -> None:
        """An owner is cancelled, fails to connect, or dies before the first byte."""
        attempt = self.claimed.pop(number % len(self.claimed))
        if not crash:
            self.apply(Release(attempt.name))

    @precondition(lambda self: self.armed)
    @rule(number=pick, end=ends)
    def end(self, number: int, end: End) -> None:
        """What was sent is answered, breaks off, or loses its owner."""
        attempt = self.armed.pop(number % len(self.armed))
        self.ended.append(attempt)
        if end == "paid" and not self.fails:
            self._store(attempt)
        elif end == "failed" and self.fails:
            self.free.append(attempt)
            self.apply(Fail("no", attempt.name))
        elif end == "free":
            self.free.append(attempt)
            self.apply(Release(attempt.name))
        elif end in {"broken", "cancelled"}:
            self.apply(Doubt(attempt.name, "sent", end))

    def _store(self, attempt: Attempt) -> None:
        self.arrived.add(attempt.body)
        self.decided_since_answer = False
        done = self.apply(Store(JOB, attempt.name, attempt.body))
        assert done is not None
        assert done.entry.state == "stored"
        assert not done.granted or attempt.body == done.entry.body

    @precondition(lambda self: self.ended)
    @rule(number=pick)
    def say_it_again(self, number: int) -> None:
        """A move whose own answer was lost is made again, or doubted."""
        attempt = self.ended[number % len(self.ended)]
        latest = None if self.entry is None else self.entry.attempt
        if attempt.body in self.arrived and latest == attempt.name:
            self.apply(Store(JOB, attempt.name, attempt.body))
        self.apply(Doubt(attempt.name, "answered", "said again"))

    @precondition(lambda self: self.claimed or self.armed)
    @rule(number=pick)
    def beat(self, number: int) -> None:
        alive = self.claimed + self.armed
        self.apply(Renew(alive[number % len(alive)].name, LEASE))

    @precondition(lambda self: self.fails)
    @rule()
    def status_says_failed(self) -> None:
        self.apply(Fail("no"))

    @rule(seconds=st.sampled_from([12.0, 3.0, -20.0]), look=st.booleans())
    def time_passes(self, seconds: float, *, look: bool) -> None:
        """Clocks are also set back. Somebody may look at the job then."""
        self.now += seconds
        if look:
            self.apply(Remember(JOB))

    @invariant()
    def charges_are_bounded_by_decisions(self) -> None:
        assert len(self.unproven) <= 1 + self.decisions
        assert sum(not attempt.decided for attempt in self.unproven) <= 1

    @invariant()
    def every_paid_answer_is_kept(self) -> None:
        if self.arrived:
            assert self.entry is not None
            assert self.entry.body in self.arrived
            assert self.entry.state == "stored" or self.decided_since_answer

    @invariant()
    def what_was_sent_is_never_forgotten(self) -> None:
        """Sent without proof: the entry is armed or uncertain, or somebody has decided."""
        if self.unproven and not self.arrived and not self.fails and not self.decisions:
            assert self.entry is not None
            assert self.entry.state in {"armed", "uncertain"}


BilledOnce.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
TestBilledOnce = BilledOnce.TestCase


def _walk(machine: BilledOnce, chance: Random) -> None:
    """Take one rule at random, of those that have something to act on."""
    number = chance.randrange(4)
    steps: list[Callable[[], None]] = [
        lambda: machine.claim(
            number, chance.choice(["yes", "yes", "no", "stale"]), then_arm=chance.random() < 0.5
        ),
        lambda: machine.time_passes(chance.choice([12.0, 3.0, -20.0]), look=number > 1),
    ]
    if machine.claimed:
        steps += [
            lambda: machine.arm(number),
            lambda: machine.arm(number),
            lambda: machine.give_up(number, crash=chance.random() < 0.5),
        ]
    if machine.armed:
        end: list[End] = ["paid", "paid", "free", "failed", "broken", "cancelled", "crashed"]
        steps += [lambda: machine.end(number, chance.choice(end))]
    if machine.claimed or machine.armed:
        steps += [
            lambda: machine.beat(number),
            lambda: machine.overtake(number, then_arm=chance.random() < 0.5),
        ]
    if machine.ended:
        steps += [lambda: machine.say_it_again(number)]
    chance.choice(steps)()


def test_thousands_of_random_walks_bill_once() -> None:
    """The same machine without the shrinking: more ground in less time, always the same."""
    for seed in range(5000):
        chance = Random(seed)
        machine = BilledOnce()
        machine.the_job_ends(chance.randrange(6))
        for _ in range(40):
            _walk(machine, chance)
            machine.charges_are_bounded_by_decisions()
            machine.every_paid_answer_is_kept()
            machine.what_was_sent_is_never_forgotten()

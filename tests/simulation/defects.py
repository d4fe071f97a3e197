"""Defects put back into the package, to ask how many seeds the simulation needs for each.

A defect is a context manager that patches attributes for as long as it is open. Those with a
number once stood in the package, and were found by other means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import attrs

from modelmax_async import LedgerEntry, TransportError
from modelmax_async._api import endpoints
from modelmax_async._billing import leases, records, settler, verdicts
from modelmax_async._client import calls
from modelmax_async._http import Exchange, exchange, transports
from modelmax_async._polling import poller, schedule
from modelmax_async._runtime import tasks
from modelmax_async.ledger import attempts, memory, postgres_batch, sqlite, transitions
from modelmax_async.ledger.attempts import is_held
from modelmax_async.ledger.moves import Claim, Fail, Look, Move, Remember, Store
from modelmax_async.ledger.transitions import Step
from simulation import postgres_defects

Defect = Callable[[], AbstractContextManager[object]]
DEFECTS: dict[str, Defect] = dict(postgres_defects.DEFECTS)


def defect(name: str) -> Callable[[Defect], Defect]:
    """Register a defect under a name that says what is wrong."""

    def register(make: Defect) -> Defect:
        DEFECTS[name] = make
        return make

    return register


@defect("none: the package as it is")
def _none() -> AbstractContextManager[object]:
    return nullcontext()


@defect("a broken exchange is taken for one that was never sent")
@contextmanager
def _never_sent() -> Iterator[None]:
    def judge_break(error: TransportError, **_: bool) -> object:
        return verdicts.Unbilled(error, retry=True)

    with patch.object(verdicts, "judge_break", judge_break):
        yield


@defect("a gateway's page proves that nothing was billed")
@contextmanager
def _pages_are_proof() -> Iterator[None]:
    honest = verdicts.judge_reply

    def judge_reply(reply: Any, job: Any, *, now: float) -> object:
        verdict = honest(reply, job, now=now)
        if isinstance(verdict, verdicts.Uncertain) and reply.status in verdicts.UNBILLED:
            error = TransportError("a gateway's page", maybe_sent=False, job=job)
            return verdicts.Unbilled(error, retry=reply.status in verdicts.RETRIED)
        return verdict

    with patch.object(verdicts, "judge_reply", judge_reply):
        yield


@defect("1: a foreign transport's exception is believed")
@contextmanager
def _believed() -> Iterator[None]:
    def is_believed(_: object, error: BaseException, **__: bool) -> bool:
        return isinstance(error, transports._NEVER_SENT)

    with patch.object(exchange, "is_believed", is_believed):
        yield


@defect("2: a refused decision is taken again about whatever the ledger holds by then")
@contextmanager
def _over_a_call() -> Iterator[None]:
    honest, claim = records.Records.apply, transitions._claim

    async def apply(self: Any, job: Any, move: Move) -> Step:
        if not isinstance(move, Claim) or move.accept is None:
            return await honest(self, job, move)
        done = await honest(self, job, attrs.evolve(move, accept=None))
        served = done.entry.state == "stored" and transitions._has_result(done.entry)
        if done.granted or served or done.entry.attempt is None:
            return done
        return await honest(self, job, attrs.evolve(move, accept=done.entry.attempt))

    def over_an_answer(entry: LedgerEntry, move: Claim, now: float) -> LedgerEntry | None:
        if entry.state != "stored" or move.accept != entry.attempt:
            return claim(entry, move, now)
        claimed = claim(attrs.evolve(entry, body=None), move, now)
        return claimed and attrs.evolve(claimed, body=entry.body)

    with patch.object(records.Records, "apply", apply), _moves(Claim, over_an_answer):
        yield


@defect("3: a decision outlives the coroutine that made it")
@contextmanager
def _owned_decision() -> Iterator[None]:
    honest = calls.Calls.result

    async def result(self: Any, job: Any, *, accept: bool) -> Any:
        return await self._parts.tasks.run(honest(self, job, accept=accept))

    with patch.object(calls.Calls, "result", result):
        yield


@defect("4: byte 0 may come after the lease")
@contextmanager
def _late() -> Iterator[None]:
    with patch.object(leases.Leases, "in_time", lambda *_: True):
        yield


@defect("4: a wall clock that jumps declares an owner gone")
@contextmanager
def _by_the_wall() -> Iterator[None]:
    with _lapsing():
        yield


@defect("7: a late unreadable answer displaces a good one")
@contextmanager
def _displaced() -> Iterator[None]:
    def store(entry: LedgerEntry, move: Store, now: float) -> LedgerEntry | None:
        if entry.state == "stored" and entry.attempt != move.attempt:
            return None
        paid = {"attempt": move.attempt, "body": move.body}
        return attempts.ended(entry, now, "stored", resting=None, decided=None, **paid)

    with _moves(Store, store):
        yield


@defect("8: a body that is whole is dropped with its exchange")
@contextmanager
def _dropped() -> Iterator[None]:
    class Forgetful(Exchange):
        reply = property(lambda _: None, lambda *_: None)

    with patch.object(settler, "Exchange", Forgetful):
        yield


@defect("10: an iterator may be started in a client that is closed")
@contextmanager
def _started_late() -> Iterator[None]:
    honest = tasks.Tasks.bind

    def bind(self: Any) -> Any:
        life, self.life = self.life, tasks.Life.OPEN
        try:
            return honest(self)
        finally:
            self.life = life

    with patch.object(tasks.Tasks, "bind", bind):
        yield


@defect("13: a lease from a clock that was ahead strands its job")
@contextmanager
def _stranded() -> Iterator[None]:
    with _lapsing(), patch.object(transitions, "is_gone", lambda *_: False):
        yield


@defect("14: a visit cancelled before its first step keeps its slot")
@contextmanager
def _kept_slot() -> Iterator[None]:
    honest = schedule.Schedule._returned

    def returned(self: Any, item: Any, task: Any) -> None:
        if not task.cancelled():
            honest(self, item, task)

    with patch.object(schedule.Schedule, "_returned", returned):
        yield


@defect("15: an uncertain job fails by what a status answer says")
@contextmanager
def _failed() -> Iterator[None]:
    def fail(entry: LedgerEntry, move: Fail, now: float) -> LedgerEntry | None:
        another = entry.state == "armed" and entry.attempt != move.attempt
        if another or entry.state in {"stored", "failed"}:
            return None
        return attempts.ended(entry, now, "failed", error=move.error)

    with _moves(Fail, fail):
        yield


@defect("16: an answer about another job is believed")
@contextmanager
def _another_job() -> Iterator[None]:
    with patch.object(endpoints, "_check_named", lambda *_: None):
        yield


@defect("17: the first waiter's model is everybody's")
@contextmanager
def _one_model() -> Iterator[None]:
    honest = poller.Poller.subscribe

    def subscribe(self: Any, job: Any, subscriber: Any, *, spread: float = 0.0) -> Any:
        key = self._records.key(job)
        known = (self._jobs.get((key, model)) for model in sorted(self._models))
        job = next((polled.job for polled in known if polled is not None), job)
        return honest(self, job, subscriber, spread=spread)

    with patch.object(poller.Poller, "subscribe", subscribe):
        yield


def _moves(kind: type[Move], decide: Callable[..., LedgerEntry | None]) -> Any:
    """Decide one kind of move in another way."""
    return patch.object(transitions, f"_{kind.__name__.lower()}", decide)


@contextmanager
def _lapsing() -> Iterator[None]:
    """Let leases run out by the wall clock, as they once did."""
    honest = transitions.job_step

    def step(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
        asked = isinstance(move, Look | Remember | Claim | Fail)
        if entry is not None and asked and is_held(entry) and entry.lease_until <= now:
            entry = attempts.abandoned_by_owner(entry, now)
        return honest(entry, move, now)

    with ExitStack() as stack:
        for module in (memory, postgres_batch, sqlite):
            stack.enter_context(patch.object(module, "job_step", step))
        yield

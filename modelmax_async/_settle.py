"""The settler: the only caller of the billed endpoint.

One attempt, and what is true at each of its awaits if the task is cancelled or the process
dies there (a caller's cancellation never reaches it; only a closing loop's does):

1. ``apply(Claim)``: nothing was sent. The claim's lease runs out, and the job is free.
2. connecting: the same.
3. ``apply(Arm)``, from the transport just before byte 0: if it is not granted, or fails, it
   raises and no byte leaves. Dying inside it leaves the entry claimed (free later) or armed.
4. sending and receiving: the entry is armed, and never claimable again. Cancelled, it is
   recorded as uncertain; dead, others see it as uncertain once its lease has run out.
5. ``apply(Store)``: the answer is in memory only. Dead, the entry is armed: uncertain. If the
   ledger fails, the result is returned all the same, kept here, and stored later.
6. ``apply(Release)``, ``apply(Doubt)``, ``apply(Fail)``: if it fails the entry stays armed,
   its lease is not renewed, and it turns uncertain: never free.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Literal

import attrs

from modelmax_async import _clock, _heartbeat
from modelmax_async import _lifecycle as life
from modelmax_async import _verdicts as verdicts
from modelmax_async._entry import Again, read_entry
from modelmax_async._errors import (
    ClientStateError,
    InvalidResponseError,
    JobFailedError,
    LedgerError,
    ResultUncertainError,
    TransportError,
)
from modelmax_async._events import (
    BilledCallArmed,
    ClaimReleased,
    Hooks,
    LedgerFailed,
    ResultStored,
    ResultUncertain,
)
from modelmax_async._heartbeat import Heartbeat
from modelmax_async._models import Job, Result
from modelmax_async._tasks import Tasks
from modelmax_async._transport import Exchange, Transport
from modelmax_async._wire import build_result, parse_result
from modelmax_async.ledger import Key, Ledger


class NotArmed(Exception):  # noqa: N818 - control flow between two functions, not an error
    """Another client has the claim, or the lease ran out: not one byte may be sent."""


class Settler:
    """Makes billed calls: one for each job and client, and one for each job and ledger."""

    def __init__(
        self, ledger: Ledger, transport: Transport, tasks: Tasks, hooks: Hooks, origin: str
    ) -> None:
        self._ledger = ledger
        self._transport = transport
        self._tasks = tasks
        self._hooks = hooks
        self._origin = origin
        self._owner = uuid.uuid4().hex
        self._flights: dict[Key, asyncio.Task[Result | Again]] = {}
        self._accepting: set[Key] = set()
        self._beat = Heartbeat(ledger, tasks, hooks)
        self._closing = False

    def key(self, job: Job) -> Key:
        """Return what the ledger files the job under."""
        return Key(self._origin, job.request_id)

    async def recall(self, key: Key, job: Job) -> Result | life.Step:
        """Record the job, and return its result without any call where it is stored.

        The step is granted when the ledger did not know the job before.

        Raises:
            JobFailedError, ResultUncertainError, InvalidResponseError, LedgerError
        """
        if (body := self._beat.unsaved(key)) is not None:
            return parse_result(body, job)
        done = _step(await self._ledger.apply(key, life.Remember(job)))
        return read_entry(done.entry, job) or done

    async def remember(self, job: Job) -> None:
        """Record a job just submitted; a ledger that fails must not cost its id."""
        await self._try(self.key(job), job, life.Remember(job))

    async def settle(self, job: Job, *, accept: bool = False) -> Result | Again:
        """Make the billed call, or join the one that is under way.

        Args:
            job: a job that should be COMPLETED.
            accept: whether the user has decided to pay again where the outcome of the
                call is unknown or unreadable; a result that is there is served as ever.

        Raises:
            JobFailedError, ResultUncertainError, InvalidResponseError, LedgerError, APIError
        """
        key = self.key(job)
        while accept and key not in self._accepting and (other := self._flights.get(key)):
            await asyncio.wait([other])  # it has no leave to pay again: see what it brings
        flight = self._flights.get(key)
        if flight is None:
            flight = self._tasks.spawn(self._attempt(key, job, accept=accept))
            self._flights[key] = flight
            if accept:
                self._accepting.add(key)  # one leave to pay again is shared by all who gave it
            flight.add_done_callback(lambda _: self._landed(key))
        return await self._tasks.outcome(flight)

    def _landed(self, key: Key) -> None:
        del self._flights[key]
        self._accepting.discard(key)

    async def record_failed(self, job: Job, error: str) -> None:
        """Record that status said FAILED, which is final and never billed."""
        await self._try(self.key(job), job, life.Fail(error))

    async def drain(self, seconds: float) -> None:
        """Let billed calls end, start none, and record as uncertain what had to be left."""
        self._closing = True
        await self._tasks.finish(set(self._flights.values()), seconds)
        await self._beat.aclose()

    async def _attempt(self, key: Key, job: Job, *, accept: bool) -> Result | Again:
        if (body := self._beat.unsaved(key)) is not None:
            return parse_result(body, job)
        attempt = f"{self._owner}:{uuid.uuid4().hex}"
        done = await self._claim(
            key, life.Claim(job, self._owner, attempt, _heartbeat.LEASE), accept=accept
        )
        if not done.granted:
            return read_entry(done.entry, job) or Again("held")
        self._beat.hold(key, attempt)
        try:
            verdict = await self._call(key, job, attempt)
            return await self._record(key, job, attempt, verdict)
        except NotArmed:
            return Again("held")
        finally:
            self._beat.let_go(key)

    async def _claim(self, key: Key, claim: life.Claim, *, accept: bool) -> life.Step:
        """Claim; with ``accept``, also what has an unknown or an unreadable outcome."""
        done = _step(await self._ledger.apply(key, claim))
        if done.granted or not accept:
            return done
        try:
            settled = read_entry(done.entry, claim.job) is not None
        except (ResultUncertainError, InvalidResponseError):
            settled = False
        if settled or done.entry.attempt is None:
            return done
        # Only this very outcome is given up: one that came in the meantime is not.
        again = attrs.evolve(claim, accept=done.entry.attempt)
        return _step(await self._ledger.apply(key, again))

    async def _call(self, key: Key, job: Job, attempt: str) -> verdicts.Verdict:
        """Send, and judge the answer; on the way out by an exception nothing stays claimed."""

        async def arm() -> None:
            if self._closing:
                raise ClientStateError("the client was closed before the billed call was sent")
            if not _step(
                await self._ledger.apply(key, life.Arm(attempt, _heartbeat.LEASE))
            ).granted:
                raise NotArmed
            self._hooks.emit(BilledCallArmed(job, attempt))

        exchange = Exchange(once=True, before_send=arm)
        try:
            reply = await self._transport.send_once(build_result(job), exchange)
        except TransportError as exc:
            return verdicts.judge_break(exc, answered=exchange.answered)
        except BaseException as exc:
            if exc is exchange.refusal:
                # Raised by arm(): nothing was sent, so that the claim may go even if armed.
                await self._try(key, job, life.Release(attempt))
            else:
                await self._abandon(key, job, attempt, exchange, exc)
            raise
        return verdicts.judge_reply(reply, job, now=_clock.wall())

    async def _abandon(
        self, key: Key, job: Job, attempt: str, exchange: Exchange, error: BaseException
    ) -> None:
        """The loop is closing, the drain's time is up, or worse: leave the truth behind."""
        if exchange.maybe_sent(error):
            phase: Literal["answered", "sent"] = "answered" if exchange.answered else "sent"
            cause = (
                "the client was closed, or its event loop ended, before the answer came "
                f"({type(error).__name__})"
            )
            await self._try(key, job, life.Doubt(attempt, phase, cause))
            self._hooks.emit(ResultUncertain(job, phase, cause))
        else:
            await self._try(key, job, life.Release(attempt))

    async def _record(
        self, key: Key, job: Job, attempt: str, verdict: verdicts.Verdict
    ) -> Result | Again:
        match verdict:
            case verdicts.Keep(body):
                await self._beat.save(key, life.Store(job, attempt, body))
                self._hooks.emit(ResultStored(job, attempt))
                return parse_result(body, job)
            case verdicts.NotYet(status):
                await self._release(key, job, attempt, f"the job is {status}")
                return Again("not ready", status=status)
            case verdicts.HasFailed(error):
                await self._try(key, job, life.Fail(error, attempt))
                raise JobFailedError(error, job=job)
            case verdicts.Unbilled(error, retry):
                await self._release(key, job, attempt, str(error))
                if not retry:
                    raise error
                return Again("unbilled", error)
            case unknown:
                phase, cause = unknown.phase, unknown.cause
                await self._try(key, job, life.Doubt(attempt, phase, cause))
                self._hooks.emit(ResultUncertain(job, phase, cause))
                raise ResultUncertainError(cause, job=job, phase=phase, since=_clock.wall())

    async def _release(self, key: Key, job: Job, attempt: str, cause: str) -> None:
        await self._try(key, job, life.Release(attempt))
        self._hooks.emit(ClaimReleased(job, cause))

    async def _try(self, key: Key, job: Job, move: life.Move) -> None:
        """Record what was learnt; where the ledger fails, say so and go on."""
        try:
            await self._ledger.apply(key, move)
        except Exception as exc:  # noqa: BLE001 - the answer is worth more than its record
            self._hooks.emit(LedgerFailed(job, str(exc)))


def _step(done: life.Step | None) -> life.Step:
    if done is None:
        raise LedgerError("the ledger lost an entry that it was just given")
    return done

"""The settler: the only caller of the billed endpoint.

One attempt, and what is true at each of its awaits if the task is cancelled or the process
dies there (a caller's cancellation never reaches it; only a closing loop's does):

1. ``apply(Claim)``: nothing was sent. The claim's lease runs out, and the job is free.
2. connecting: the same.
3. ``apply(Arm)``, from the transport just before byte 0: if it is not granted, fails, or took
   longer than the lease, it raises and no byte leaves. Dying inside it leaves the entry claimed
   (free later) or armed.
4. sending and receiving: the entry is armed, and never claimable again. Cancelled, it is
   recorded as uncertain; dead, others see it as uncertain once its lease stands still. An
   answer that is whole by then is judged and stored like any other.
5. ``apply(Store)``: the answer is in memory only. Dead, the entry is armed: uncertain. If the
   ledger fails or hangs, the result is returned all the same, kept here, and stored later.
6. ``apply(Release)``, ``apply(Doubt)``, ``apply(Fail)``: if it fails the entry stays armed,
   its lease is not renewed, and it turns uncertain: never free.

Between the last look at the clock and byte 0 a machine may stand still, and nobody can see it:
see README, "Where the promise ends".
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid

from modelmax_async import _clock, _heartbeat
from modelmax_async import _moves as moves
from modelmax_async import _verdicts as verdicts
from modelmax_async._decisions import Decision, Flight
from modelmax_async._entry import Again, read_entry
from modelmax_async._errors import (
    ClientStateError,
    JobFailedError,
    ModelMaxError,
    ResultUncertainError,
    TransportError,
)
from modelmax_async._events import (
    AnswerDiscarded,
    BilledCallArmed,
    ClaimReleased,
    Hooks,
    ResultStored,
    ResultUncertain,
    UnarmedAnswer,
)
from modelmax_async._heartbeat import Heartbeat
from modelmax_async._models import Job, Phase, Result
from modelmax_async._records import Records
from modelmax_async._tasks import Tasks
from modelmax_async._transport import Exchange, Transport
from modelmax_async._wire import build_result, parse_result
from modelmax_async.ledger import Key


class NotArmed(Exception):  # noqa: N818 - control flow between two functions, not an error
    """Not one byte may be sent: the claim is another's, too old, or nobody's wish any more."""


class Settler:
    """Makes billed calls: one for each job and client, and one for each job and ledger."""

    def __init__(
        self, records: Records, transport: Transport, tasks: Tasks, hooks: Hooks
    ) -> None:
        self._records = records
        self._transport = transport
        self._tasks = tasks
        self._hooks = hooks
        self._owner = uuid.uuid4().hex
        self._flights: dict[Key, Flight] = {}
        self._beat = Heartbeat(records.ledger, tasks, hooks)
        self._closing = False

    async def settle(
        self, job: Job, *, decision: Decision | None = None, acknowledged: bool = False
    ) -> Result | Again:
        """Make the billed call, or join the one that is under way.

        Args:
            job: a job that should be COMPLETED.
            decision: the user's consent to pay again for what one attempt left open; a result
                that is there is served as ever.
            acknowledged: whether the server has confirmed that it knows the job.

        Raises:
            JobFailedError, ResultUncertainError, ResultDroppedError, InvalidResponseError,
            LedgerError, APIError, ClientStateError
        """
        key = self._records.key(job)
        flight = self._flights.get(key)
        if flight is not None and not flight.serves(job, decision):
            await asyncio.wait([flight.task])
            return Again("held")
        if flight is None:
            if self._closing:
                raise ClientStateError("the client was closed", job=job)
            decisions: list[Decision] = []
            attempt = self._attempt(key, job, decisions, acknowledged=acknowledged)
            flight = Flight(job, self._tasks.spawn(attempt), decisions)
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._flights.pop(key))
        if decision is not None:
            flight.decisions.append(decision)
        return await self._tasks.outcome(flight.task)

    async def drain(self, seconds: float) -> None:
        """Let billed calls end, start none, and record as uncertain what had to be left."""
        self._closing = True
        await self._tasks.finish({flight.task for flight in self._flights.values()}, seconds)
        await self._beat.aclose(_heartbeat.PATIENCE)

    def unsaved(self, job: Job) -> Result | None:
        """Return the result that the ledger could not take yet.

        Raises:
            InvalidResponseError: the paid answer that is kept is not understood.
        """
        body = self._beat.unsaved(self._records.key(job))
        return None if body is None else parse_result(body, job)

    async def _attempt(
        self, key: Key, job: Job, decisions: list[Decision], *, acknowledged: bool
    ) -> Result | Again:
        if (kept := self.unsaved(job)) is not None:
            return kept
        attempt = f"{self._owner}:{uuid.uuid4().hex}"
        takeover = self._records.leases.gone(key)
        lease = _heartbeat.LEASE
        accept = next((d.attempt for d in decisions if d.lease_until in {None, takeover}), None)
        claim = moves.Claim(job, self._owner, attempt, lease, accept, takeover, acknowledged)
        done = await self._records.apply(job, claim)
        if not done.granted:
            found = read_entry(done.entry, job)
            if found is None:
                self._records.leases.look(key, done.entry, asyncio.get_running_loop().time())
            return found or Again("held")
        self._records.leases.forget(key)
        self._beat.hold(key, attempt)
        try:
            verdict = await self._call(job, attempt, decisions)
            return await self._record(job, attempt, verdict)
        except NotArmed:
            return Again("held")
        finally:
            self._beat.let_go(key)

    async def _call(
        self, job: Job, attempt: str, decisions: list[Decision]
    ) -> verdicts.Verdict:
        """Send, and judge the answer; on the way out by an exception nothing stays claimed."""
        exchange = self._exchange(job, attempt, decisions)
        try:
            reply = await self._transport.send_once(build_result(job), exchange)
        except TransportError as exc:
            return verdicts.judge_break(exc, answered=exchange.answered)
        except BaseException as exc:
            if exc is exchange.refusal:
                # Raised by arm(): nothing was sent, so that the claim may go even if armed.
                await self._records.note(job, moves.Release(attempt))
            else:
                await self._abandon(job, attempt, exchange, exc)
            raise
        if exchange.unarmed:
            await self._records.note(job, moves.Arm(attempt, _heartbeat.LEASE))
            self._hooks.emit(UnarmedAnswer(job, attempt))
        return verdicts.judge_reply(reply, job, now=_clock.wall())

    def _exchange(self, job: Job, attempt: str, decisions: list[Decision]) -> Exchange:
        """Return an exchange that arms the attempt just before byte 0, and looks once more."""
        key = self._records.key(job)

        async def arm() -> None:
            if self._closing:
                raise ClientStateError("the client was closed before the billed call was sent")
            if decisions and not any(decision.wanted() for decision in decisions):
                raise NotArmed  # a decision ends with the coroutine that made it
            if not await self._beat.arm(key, attempt):
                raise NotArmed
            self._hooks.emit(BilledCallArmed(job, attempt))

        def last_look() -> None:
            if not self._beat.in_time(key):
                raise NotArmed

        return Exchange(once=True, before_send=arm, last_look=last_look)

    async def _abandon(
        self, job: Job, attempt: str, exchange: Exchange, error: BaseException
    ) -> None:
        """The loop is closing, the drain's time is up, or worse: leave the truth behind."""
        if exchange.reply is not None:
            verdict = verdicts.judge_reply(exchange.reply, job, now=_clock.wall())
            with contextlib.suppress(ModelMaxError):  # what it says is recorded all the same
                await self._record(job, attempt, verdict)
            return
        if not exchange.maybe_sent(error):
            await self._records.note(job, moves.Release(attempt))
            return
        phase: Phase = "answered" if exchange.answered else "sent"
        cause = "the client was closed, or its event loop ended, before the answer arrived"
        await self._doubt(job, attempt, phase, f"{cause} ({type(error).__name__})")

    async def _record(
        self, job: Job, attempt: str, verdict: verdicts.Verdict
    ) -> Result | Again:
        match verdict:
            case verdicts.Keep(body):
                return await self._keep(job, attempt, body)
            case verdicts.NotYet(status):
                await self._release(job, attempt, f"the job is {status}")
                return Again("not ready", status=status)
            case verdicts.HasFailed(error):
                done = await self._records.note(job, moves.Fail(error, attempt))
                if done is not None:
                    # What an earlier call cost may still be open.
                    read_entry(done.entry, job, also=f"now the server says FAILED: {error}")
                raise JobFailedError(error, job=job)
            case verdicts.Unbilled(error, retry):
                await self._release(job, attempt, str(error))
                if not retry:
                    raise error
                return Again("unbilled", error)
            case unknown:
                phase, cause = unknown.phase, unknown.cause
                await self._doubt(job, attempt, phase, cause)
                since = _clock.wall()
                raise ResultUncertainError(
                    cause, job=job, phase=phase, since=since, attempt=attempt
                )

    async def _keep(self, job: Job, attempt: str, body: bytes) -> Result | Again:
        done = await self._beat.save(self._records.key(job), moves.Store(job, attempt, body))
        if done is not None and not done.granted:
            self._hooks.emit(AnswerDiscarded(job, attempt))
            return read_entry(done.entry, job) or parse_result(body, job)
        self._hooks.emit(ResultStored(job, attempt))
        return parse_result(body, job)

    async def _doubt(self, job: Job, attempt: str, phase: Phase, cause: str) -> None:
        await self._records.note(job, moves.Doubt(attempt, phase, cause))
        self._hooks.emit(ResultUncertain(job, phase, cause))

    async def _release(self, job: Job, attempt: str, cause: str) -> None:
        await self._records.note(job, moves.Release(attempt))
        self._hooks.emit(ClaimReleased(job, cause))

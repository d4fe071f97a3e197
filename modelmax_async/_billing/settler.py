"""The settler: the only caller of the billed endpoint.

One attempt, and what is true at each of its awaits if the task is cancelled or the process
dies there (a caller's cancellation never reaches it; only a closing loop's does):

1. ``apply(Claim)``: nothing was sent. The lease of the claim runs out, and the job can be
   claimed again.
2. connecting: the same.
3. ``apply(Arm)``, just before byte 0: if it is not granted, fails, or takes longer than the
   lease, it raises and no byte is sent. If the process dies inside it, the entry is claimed
   or armed.
4. sending and receiving: the entry is armed, and never claimable again. If it is cancelled, it
   is recorded as uncertain, unless the response is complete by then; if the process dies,
   others see it as uncertain once its lease stands still.
5. ``apply(Store)``: the response is in memory only. If the process dies, the entry is armed:
   uncertain. If the ledger fails or hangs, the result is returned all the same, kept here, and
   stored later.
6. ``apply(Release)``, ``apply(Uncertain)``, ``apply(Fail)``: if it fails, the entry stays
   armed, its lease is not renewed, and it becomes uncertain: never claimable.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid

from modelmax_async import events
from modelmax_async._api.endpoints import build_result, parse_result
from modelmax_async._api.messages import Call
from modelmax_async._billing import leases, unsaved, verdicts
from modelmax_async._billing.decisions import Attempt, Decision, Flight, NotArmed
from modelmax_async._billing.leases import Leases
from modelmax_async._billing.outcomes import Held, Settled, read_entry
from modelmax_async._billing.records import Records
from modelmax_async._billing.unsaved import Unsaved
from modelmax_async._errors import (
    ClientStateError,
    JobFailedError,
    ModelMaxError,
    ResultUncertainError,
    TransportError,
)
from modelmax_async._http import Exchange, HTTPClient
from modelmax_async._models import Job, LedgerEntry, Phase, Result
from modelmax_async._runtime import clock
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.tasks import Life, Tasks
from modelmax_async.ledger import Fail, Key, Release, Step, Store, Uncertain


class Settler:
    """Makes billed calls: one for each job and client, and one for each job and ledger."""

    def __init__(self, records: Records, http: HTTPClient, tasks: Tasks, hooks: Hooks) -> None:
        self._records = records
        self._http = http
        self._tasks = tasks
        self._hooks = hooks
        self._owner = uuid.uuid4().hex
        self._flights: dict[Key, Flight] = {}
        self._leases = Leases(records.ledger, tasks)
        self._unsaved = Unsaved(records.ledger, self._leases, tasks, hooks)

    async def settle(
        self, job: Job, *, decision: Decision | None = None, acknowledged: bool = False
    ) -> Settled:
        """Make the billed call, or join the one that is under way.

        Args:
            job: a job that should be COMPLETED.
            decision: the user's consent to pay again for what one attempt left open.
            acknowledged: whether the server has confirmed that it knows the job.

        Raises: JobError, InvalidResponseError, LedgerError, APIError, ClientStateError.
        """
        key = self._records.key(job)
        flight = self._flights.get(key)
        if flight is not None and not flight.serves(job, decision):
            await asyncio.wait([flight.task])
            return Held()
        if flight is None:
            if self._tasks.life is not Life.OPEN:
                raise ClientStateError("the client was closed", job=job)
            decisions = [] if decision is None else [decision]
            task = self._tasks.spawn(self._fly(job, decisions, acknowledged=acknowledged))
            flight = Flight(job, task, decisions)
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._flights.pop(key))
        elif decision is not None:
            flight.decisions.append(decision)
        return await self._tasks.outcome(flight.task)

    async def drain(self, seconds: float) -> None:
        """Let the billed calls of a closing client end; record the rest as uncertain."""
        await self._tasks.finish({flight.task for flight in self._flights.values()}, seconds)
        self._leases.stop()
        await self._unsaved.aclose(unsaved.PATIENCE)

    async def look(self, job: Job) -> LedgerEntry | None:
        """Return what the ledger holds, after another try to store a paid response."""
        await self._unsaved.flush(self._records.key(job))
        return await self._records.look(job)

    def unsaved(self, job: Job) -> Result | None:
        """Return the result that the ledger has not stored yet."""
        body = self._unsaved.body(self._records.key(job))
        return None if body is None else parse_result(body, job)

    async def _fly(self, job: Job, decisions: list[Decision], *, acknowledged: bool) -> Settled:
        key = self._records.key(job)
        if (kept := self.unsaved(job)) is not None:
            return kept
        call = build_result(job)  # first, for it may raise, and nothing must stay claimed then
        takeover = self._records.watch.gone(key)
        attempt = Attempt(job, f"{self._owner}:{uuid.uuid4().hex}", decisions, takeover)
        heard = acknowledged or job.submitted_at is not None  # the server's 202
        claim = attempt.claim(self._owner, leases.LEASE, acknowledged=heard)
        done = await self._records.apply(job, claim)
        if not done.granted:
            return read_entry(done.entry, job) or self._records.held(job, done.entry)
        self._records.watch.forget(key)
        self._leases.hold(key, attempt.id)
        exchange = self._exchange(attempt, call)
        try:
            return await self._record(attempt, await self._call(attempt, call, exchange))
        except NotArmed:
            return Held()
        finally:
            if self._unsaved.body(key) is None:
                self._leases.let_go(key, attempt.id)
            if exchange.ended is not None:
                self._hooks.emit(exchange.ended)

    async def _call(self, attempt: Attempt, call: Call, exchange: Exchange) -> verdicts.Verdict:
        """Send, and judge the response; if an exception leaves here, nothing stays claimed."""
        job = attempt.job
        try:
            reply = await self._http.send_once(call, exchange)
        except TransportError as exc:
            return verdicts.judge_break(exc, answered=exchange.answered)
        except BaseException as exc:
            if exc is exchange.refusal:
                # Raised before byte 0: nothing was sent, so that even an armed claim may go.
                await self._release(attempt, "it was not sent")
            else:
                await self._abandon(attempt, exchange, exc)
            raise
        if exchange.unarmed:
            self._hooks.emit(events.UnarmedAnswer(job, attempt.id))
        return verdicts.judge_reply(reply, job, now=clock.wall())

    def _exchange(self, attempt: Attempt, call: Call) -> Exchange:
        """Return an exchange that arms the attempt just before byte 0, and looks once more."""
        key = self._records.key(attempt.job)

        def check_wanted() -> None:
            if self._tasks.life is not Life.OPEN:
                raise ClientStateError("the client was closed before the billed call was sent")
            if attempt.unwanted:
                raise NotArmed

        def last_look() -> None:
            check_wanted()
            if not self._leases.in_time(key):
                raise NotArmed

        async def arm() -> None:
            check_wanted()
            if not await self._leases.arm(key, attempt.id):
                raise NotArmed
            exchange.armed, url = True, self._http.address(call)
            self._hooks.emit(events.BilledCallArmed(attempt.job, attempt.id, url))
            last_look()  # while the ledger was asked, hooks may block and callers may leave

        exchange = Exchange(once=True, before_send=arm, last_look=last_look, attempt=attempt.id)
        return exchange

    async def _abandon(
        self, attempt: Attempt, exchange: Exchange, error: BaseException
    ) -> None:
        """Record how far the call got: the loop is closing, or the time of the drain is up."""
        if exchange.reply is not None:
            verdict = verdicts.judge_reply(exchange.reply, attempt.job, now=clock.wall())
            with contextlib.suppress(ModelMaxError):  # what it says is recorded all the same
                await self._record(attempt, verdict)
            return
        if not exchange.maybe_sent(error):
            await self._release(attempt, "it was not sent")
            return
        phase: Phase = "answered" if exchange.answered else "sent"
        cause = "the client was closed, or its event loop ended, before the response arrived"
        cause = f"{cause} ({type(error).__name__}){exchange.received}"
        await self._note_uncertain(attempt, phase, cause)

    async def _record(self, attempt: Attempt, verdict: verdicts.Verdict) -> Settled:
        match verdict:
            case verdicts.Paid(body):
                return await self._store(attempt, body)
            case verdicts.NotReady(status):
                await self._release(attempt, f"the job is {status}")
                return verdict
            case verdicts.Failed(error):
                return await self._failed(attempt, error)
            case verdicts.Unbilled(error, retry):
                await self._release(attempt, str(error), unknown=verdicts.is_unknown(error))
                if not retry:
                    raise error
                return verdict
            case uncertain:
                return await self._uncertain(attempt, uncertain.phase, uncertain.cause)

    async def _store(self, attempt: Attempt, body: bytes) -> Result:
        job, key = attempt.job, self._records.key(attempt.job)
        done = await self._unsaved.save(key, Store(job, attempt.id, body))
        if done is not None and not done.granted:
            self._hooks.emit(events.AnswerDiscarded(job, attempt.id))
            return read_entry(done.entry, job) or parse_result(body, job)
        self._hooks.emit(events.ResultStored(job, attempt.id))
        return parse_result(body, job)

    async def _failed(self, attempt: Attempt, error: str) -> Result:
        """Record that the job FAILED; what an earlier call cost may still be uncertain."""
        job, also = attempt.job, f"now the server says FAILED: {error}"
        done = await self._records.note(job, Fail(error, attempt.id))
        self._hooks.emit(events.ClaimReleased(job, "the job is FAILED", attempt.id))
        if done is not None and (found := read_entry(done.entry, job, also=also)) is not None:
            return found
        if attempt.decisions:
            cause, since = f"the outcome of an earlier call is uncertain; {also}", clock.wall()
            raise ResultUncertainError(cause, job=job, phase="sent", since=since)
        raise JobFailedError(error, job=job)

    async def _uncertain(self, attempt: Attempt, phase: Phase, cause: str) -> Result:
        """Record that the outcome is uncertain, unless the ledger knows better by now."""
        job = attempt.job
        done = await self._note_uncertain(attempt, phase, cause)
        if done is not None and (found := read_entry(done.entry, job)) is not None:
            return found
        since = clock.wall()
        raise ResultUncertainError(cause, job=job, phase=phase, since=since, attempt=attempt.id)

    async def _note_uncertain(self, attempt: Attempt, phase: Phase, cause: str) -> Step | None:
        done = await self._records.note(attempt.job, Uncertain(attempt.id, phase, cause))
        self._hooks.emit(events.ResultUncertain(attempt.job, phase, cause, attempt.id))
        return done

    async def _release(self, attempt: Attempt, cause: str, *, unknown: bool = False) -> None:
        await self._records.note(attempt.job, Release(attempt.id, unknown))
        self._hooks.emit(events.ClaimReleased(attempt.job, cause, attempt.id))

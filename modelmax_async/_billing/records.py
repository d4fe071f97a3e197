"""One client's view of its ledger: what it holds of each job, and what is noted there.

Every question to the ledger has a time limit, so that a ledger that hangs blocks no caller
for ever.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import TypeVar

from modelmax_async._billing.leases import LeaseWatch
from modelmax_async._billing.outcomes import Held
from modelmax_async._errors import LedgerError
from modelmax_async._models import Job, LedgerEntry, LedgerState
from modelmax_async._runtime.hooks import Hooks
from modelmax_async.events import LedgerFailed
from modelmax_async.ledger import Entries, Key, Ledger, SubmitKey, SubmitStep
from modelmax_async.ledger.moves import Forget, Look, Move
from modelmax_async.ledger.transitions import Step

T = TypeVar("T")

#: Seconds that a ledger has for a move that the billed call depends on, and for one that
#: records what has happened already. SQLite waits 10 seconds for a lock.
ANSWER, NOTE = 30.0, 15.0


class Records:
    """One client's view of its ledger: the jobs of one origin."""

    def __init__(self, ledger: Ledger, hooks: Hooks, origin: str, watch: LeaseWatch) -> None:
        self.ledger = ledger
        self.watch = watch
        self._hooks = hooks
        self._origin = origin
        # Optional in the protocol: for ledgers that cannot keep every body.
        self._delivered: Callable[[Key], None] | None = getattr(ledger, "delivered", None)

    def key(self, job: Job) -> Key:
        """Return the key of a job in the ledger."""
        return self.key_of(job.request_id)

    def key_of(self, request_id: str) -> Key:
        """Return the key of a request id in the ledger."""
        return Key(self._origin, request_id)

    def submit_key(self, key: str) -> SubmitKey:
        """Return the key of a submit in the ledger."""
        return SubmitKey(self._origin, key)

    async def look(self, job: Job) -> LedgerEntry | None:
        """Return what is recorded of a job, and change nothing.

        Raises:
            LedgerError: if the ledger fails.
        """
        done = await self.ask(job, Look(job))
        return None if done is None else done.entry

    async def apply(self, job: Job, move: Move) -> Step:
        """Make a move that the billed call depends on.

        Raises:
            LedgerError: if the ledger fails, or has lost the job.
        """
        done = await self.ask(job, move)
        if done is None:
            raise LedgerError("the ledger lost an entry that it was just given")
        return done

    async def note(self, job: Job, move: Move) -> Step | None:
        """Record what was learnt; if the ledger fails, report it and go on."""
        try:
            return await self.ask(job, move, NOTE)
        except Exception as exc:  # noqa: BLE001 - what was learnt is worth more than its record
            self._hooks.emit(LedgerFailed(job, str(exc)))
            return None

    async def ask(self, job: Job, move: Move, seconds: float = ANSWER) -> Step | None:
        """Make a move; ``None`` if the ledger has no such job.

        Raises:
            LedgerError: if the ledger fails, or takes longer than ``seconds``.
        """
        return await self.ask_id(job.request_id, move, seconds, job)

    async def ask_id(
        self, request_id: str, move: Move, seconds: float = ANSWER, job: Job | None = None
    ) -> Step | None:
        """Make a move for a request id; see `ask`."""
        about = f"job {request_id}"
        done = await self._apply(self.key_of(request_id), move, seconds, about, job)
        return done if isinstance(done, Step) else None

    async def ask_key(self, key: SubmitKey, move: Move) -> SubmitStep:
        """Make a move that a submit with a key depends on.

        Raises:
            LedgerError: if the ledger fails, or cannot keep the keys of submits.
        """
        done = await self._apply(key, move, ANSWER, f"key {key.key!r}", None)
        if not isinstance(done, SubmitStep):
            raise LedgerError(
                f"the ledger did not keep the key {key.key!r}: it does not support SubmitKey. "
                "Nothing was submitted: use another ledger, or submit without a key"
            )
        return done

    async def free_key(self, key: SubmitKey, request_id: str) -> None:
        """Free a key if it belongs to this job.

        Raises:
            LedgerError: if the ledger fails.
        """
        await self._apply(key, Forget(request_id), ANSWER, f"key {key.key!r}", None)

    async def note_key(self, key: SubmitKey, move: Move) -> None:
        """Record how a submit with a key ended; if the ledger fails, its lease runs out."""
        with suppress(Exception):
            await self._apply(key, move, NOTE, f"key {key.key!r}", None)

    async def _apply(
        self, key: Key | SubmitKey, move: Move, seconds: float, about: str, job: Job | None
    ) -> Step | SubmitStep | None:
        try:
            async with asyncio.timeout(seconds):
                return await _awaited("apply", self.ledger.apply(key, move))
        except TimeoutError:
            failure = LedgerError(
                f"the ledger did not answer within {seconds:.0f} seconds about {about} "
                f"({type(move).__name__}). The move may still take effect",
                job=job,
            )
        raise failure

    async def entries(self, states: Collection[LedgerState]) -> list[LedgerEntry]:
        """Return the entries in these states, oldest first; report those that are unreadable.

        Raises:
            LedgerError: if the ledger fails.
        """
        try:
            async with asyncio.timeout(ANSWER):
                found = await _awaited("entries", self.ledger.entries(self._origin, states))
        except TimeoutError:
            failure = LedgerError(
                f"the ledger did not list its jobs within {ANSWER:.0f} seconds"
            )
        else:
            for each in found.unreadable if isinstance(found, Entries) else ():
                self._hooks.emit(each)
            return found
        raise failure

    def held(self, job: Job, entry: LedgerEntry) -> Held:
        """Note the lease of another client's attempt, which holds the job."""
        self.watch.look(self.key(job), entry, asyncio.get_running_loop().time())
        return Held()

    def delivered(self, job: Job) -> None:
        """Tell the ledger that a caller has the result: a full ledger may drop its body."""
        if self._delivered is not None:
            self._delivered(self.key(job))

    async def aclose(self) -> None:
        """Close the ledger."""
        await _awaited("aclose", self.ledger.aclose())


async def _awaited(method: str, returned: Awaitable[T]) -> T:
    if not inspect.isawaitable(returned):
        raise LedgerError(f"{method}() of the ledger must be an async function")
    return await returned

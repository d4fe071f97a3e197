"""One job in a check: the moves that the ledger is given, and the entries it must return."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import attrs

from modelmax_async._api.paths import make_job
from modelmax_async._models import Job, LedgerEntry, LedgerState
from modelmax_async.ledger import Arm, Claim, Key, Ledger, Look, Move, Step

#: A check gets a new job through two handles on the store.
Check = Callable[["View", "View"], Awaitable[None]]

#: Seconds of a lease that does not end during a check.
LONG = 60.0
READABLE = b'{"status": "COMPLETED", "data": [{"url": "/v1/content/0"}], "note": "\\u00e9"}'
UNREADABLE = b'{"status": "COMPLETED"}\x00\xff' + bytes(range(256)) * 1000


def check(holds: bool, promise: str) -> None:  # noqa: FBT001 - the call reads as a sentence
    """Raise an error that names the promise, unless it holds."""
    if not holds:
        raise AssertionError(f"a ledger breaks a promise: {promise}")


class View:
    """A job of this check alone, accessed through one handle on the store."""

    def __init__(self, ledger: Ledger, job: Job | None = None) -> None:
        self.ledger = ledger
        fresh = make_job("veo-3", f"check/{uuid.uuid4().hex}=é")
        self.job = job or attrs.evolve(fresh, submitted_at=1_700_000_000.25, key="row-17")
        self.key = Key("https://check.invalid:443", self.job.request_id)

    def through(self, ledger: Ledger) -> View:
        """Return the same job, accessed through another handle."""
        return View(ledger, self.job)

    def another_job(self) -> View:
        """Return another job, accessed through the same handle."""
        return View(self.ledger)

    async def take(self, move: Move) -> tuple[LedgerEntry | None, bool]:
        """Apply a move, and return the entry and whether the move was granted."""
        done = await self.ledger.apply(self.key, move)
        return (done.entry, done.granted) if isinstance(done, Step) else (None, False)

    async def expect(
        self, promise: str, move: Move, state: str, *, granted: bool
    ) -> LedgerEntry:
        """Apply a move that must lead to this state, and be granted or refused."""
        entry, was_granted = await self.take(move)
        if entry is None or (state, granted) != (entry.state, was_granted):
            raise AssertionError(f"a ledger breaks a promise: {promise}; it returned {entry}")
        return entry

    async def granted(self, promise: str, move: Move, state: str) -> LedgerEntry:
        """Apply a move that must be granted."""
        return await self.expect(promise, move, state, granted=True)

    async def refused(self, promise: str, move: Move, state: str) -> LedgerEntry:
        """Apply a move that must be refused."""
        return await self.expect(promise, move, state, granted=False)

    async def look(self, promise: str, state: str) -> LedgerEntry:
        """Read the entry, which must be in this state."""
        return await self.granted(promise, Look(self.job), state)

    def claim(
        self,
        attempt: str,
        *,
        lease: float = LONG,
        accept: str | None = None,
        takeover: float | None = None,
    ) -> Claim:
        """Return a claim by an owner named after the attempt."""
        return Claim(self.job, f"owner of {attempt}", attempt, lease, accept, takeover)

    async def arm(
        self, attempt: str, *, lease: float = LONG, accept: str | None = None
    ) -> LedgerEntry:
        """Claim a job that is known, or for which there is a decision, and arm the attempt."""
        claim = self.claim(attempt, lease=lease, accept=accept)
        await self.granted("a known or decided job can be claimed", claim, "claimed")
        return await self.granted("a claim can be armed", Arm(attempt, lease), "armed")

    async def listed(self, *states: LedgerState) -> LedgerEntry | None:
        """Return the job's entry from the list of these states."""
        found = await self.ledger.entries(self.key.origin, set(states))
        return next((entry for entry in found if entry.job == self.job), None)

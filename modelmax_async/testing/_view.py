"""One job as a check sees it: what is asked of the ledger, and what it must answer."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from modelmax_async._api.paths import make_job
from modelmax_async._models import Job, LedgerEntry, LedgerState
from modelmax_async.ledger import Arm, Claim, Key, Ledger, Look, Move

Check = Callable[[Ledger, Ledger], Awaitable[None]]

#: Seconds of a lease that does not run out during a check.
LONG = 60.0
READABLE = b'{"status": "COMPLETED", "data": [{"url": "/v1/content/0"}], "note": "\\u00e9"}'
UNREADABLE = b'{"status": "COMPLETED"}\x00\xff' + bytes(range(256)) * 1000


def check(holds: bool, promise: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    """Fail with the promise unless it holds."""
    if not holds:
        raise AssertionError(f"a ledger breaks a promise: {promise}")


class View:
    """One job of its own, seen through one handle on the store."""

    def __init__(self, ledger: Ledger, job: Job | None = None) -> None:
        self.ledger = ledger
        self.job = job or make_job("veo-3", f"check/{uuid.uuid4().hex}=é")
        self.key = Key("https://check.invalid:443", self.job.request_id)

    def through(self, ledger: Ledger) -> View:
        """Return the same job, seen through another handle."""
        return View(ledger, self.job)

    async def take(self, move: Move) -> tuple[LedgerEntry | None, bool]:
        """Return what the ledger says to a move."""
        done = await self.ledger.apply(self.key, move)
        return (None, False) if done is None else (done.entry, done.granted)

    async def expect(
        self, promise: str, move: Move, state: str, *, granted: bool
    ) -> LedgerEntry:
        """Take a move that must end in this state, and be granted or not."""
        entry, was_granted = await self.take(move)
        if entry is None or (state, granted) != (entry.state, was_granted):
            raise AssertionError(f"a ledger breaks a promise: {promise}; it says {entry}")
        return entry

    async def granted(self, promise: str, move: Move, state: str) -> LedgerEntry:
        """Take a move that must be granted."""
        return await self.expect(promise, move, state, granted=True)

    async def refused(self, promise: str, move: Move, state: str) -> LedgerEntry:
        """Take a move that must be refused."""
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
        """Return a claim by an owner of its own."""
        return Claim(self.job, f"owner of {attempt}", attempt, lease, accept, takeover)

    async def arm(
        self, attempt: str, *, lease: float = LONG, accept: str | None = None
    ) -> LedgerEntry:
        """Claim the job, which is free or decided on, and arm the attempt."""
        claim = self.claim(attempt, lease=lease, accept=accept)
        await self.granted("a free job can be claimed, and one decided on", claim, "claimed")
        return await self.granted("a claim can be armed", Arm(attempt, lease), "armed")

    async def listed(self, *states: LedgerState) -> LedgerEntry | None:
        """Return the job's entry out of a list of these states."""
        found = await self.ledger.entries(self.key.origin, set(states))
        return next((entry for entry in found if entry.job == self.job), None)

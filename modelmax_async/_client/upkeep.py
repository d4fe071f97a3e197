"""What the ledger holds, and what is to be kept of it: lists, marks, and what is given up."""

from __future__ import annotations

import asyncio

import attrs

from modelmax_async._billing.leases import LOOK
from modelmax_async._errors.sentences import plain
from modelmax_async._models import UNFINISHED, Job, LedgerEntry
from modelmax_async._polling.visits import Parts
from modelmax_async._runtime import clock
from modelmax_async.ledger import Forget, MarkSaved, Prune, Remember, Step
from modelmax_async.ledger.attempts import is_held

#: The most moves that the ledger is asked for at once.
_CHUNK = 256


@attrs.frozen
class Upkeep:
    """The upkeep of one client's ledger. It runs in tasks that the client owns."""

    _parts: Parts

    async def pending(self) -> list[Job]:
        """Return the acknowledged jobs with neither a stored result nor a failure."""
        found = await self._parts.records.entries(UNFINISHED)
        return [entry.job for entry in found if entry.acknowledged]

    async def stored(self, *, unsaved: bool) -> list[Job]:
        """Return the jobs whose paid result is stored, or only those not saved yet."""
        found = await self._parts.records.entries({"stored"})
        return [entry.job for entry in found if not unsaved or entry.saved_at is None]

    async def mark_saved(self, request_id: str) -> None:
        """Mark a stored result as saved; a job without one is a `ValueError`."""
        done = await self._parts.records.ask_id(request_id, MarkSaved())
        if done is None or not done.granted:
            raise ValueError(
                f"job {plain(request_id)} has no stored result to mark as saved: wait for it "
                "first"
            )

    async def forget(self, request_id: str) -> None:
        """Give up a job; one that is paid for, or being fetched, is a `ValueError`.

        First the job, then its key: in between, the key returns a job that nobody can have
        billed any more. A job without an entry gets one, for those who have it from its key.
        """
        done = await self._forget(request_id)
        listed = None
        if done is None or not done.entry.acknowledged:
            listed = await self._submitted(request_id)
        if done is None and listed is not None:
            await self._parts.records.ask(listed, Remember(listed))
            done = await self._forget(request_id)
        if done is None:
            return
        if not done.granted:
            raise ValueError(
                f"job {plain(request_id)} is paid for, and its result is never dropped: "
                "nothing was changed. Once it is saved, prune() drops its body"
            )
        key = (listed or done.entry.job).key
        if key is not None and done.entry.phase is None:  # nothing can have been billed
            submit_key = self._parts.records.submit_key(key)
            await self._parts.records.free_key(submit_key, request_id)

    async def _forget(self, request_id: str) -> Step | None:
        """Make the move; a job whose owner seems to be gone is watched until that is known."""
        records, lease = self._parts.records, None
        while True:
            gone = records.watch.gone(records.key_of(request_id))
            done = await records.ask_id(request_id, Forget(request_id, gone))
            if done is None or not is_held(done.entry):
                return done
            _check_not_renewed(done.entry, lease)
            lease = done.entry.lease_until
            records.held(done.entry.job, done.entry)
            await self._parts.tasks.sleep(LOOK)

    async def _submitted(self, request_id: str) -> Job | None:
        """Return a job of which its submission says more than its entry, if it has one."""
        known = await self._parts.records.entries({"known"})
        found = (e.job for e in known if e.job.request_id == request_id and e.acknowledged)
        return next(found, None)

    async def prune(self, seconds: float) -> int:
        """Drop the bodies of the results that were saved longer ago; return how many."""
        records, before = self._parts.records, clock.wall() - seconds
        stored = await records.entries({"stored"})
        old = [e.job for e in stored if e.saved_at is not None and e.saved_at <= before]
        dropped = 0
        for start in range(0, len(old), _CHUNK):
            moves = (records.ask(job, Prune(before)) for job in old[start : start + _CHUNK])
            done = await asyncio.gather(*moves)
            dropped += sum(step is not None and step.granted for step in done)
        return dropped


def _check_not_renewed(entry: LedgerEntry, lease: float | None) -> None:
    """Refuse to give up a job whose lease was renewed since it was looked at."""
    if lease not in {None, entry.lease_until}:
        raise ValueError(
            f"the result of job {plain(entry.job.request_id)} is being fetched: nothing was "
            "changed. Wait for the job, or try again once the fetch has ended"
        )

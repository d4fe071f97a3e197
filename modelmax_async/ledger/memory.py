"""The ledger in memory: it lasts as long as its process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import NamedTuple

from attrs import evolve

from modelmax_async._api.paths import make_job
from modelmax_async._errors import LedgerError
from modelmax_async._models import Job, LedgerEntry, LedgerState
from modelmax_async._reprs import always_shown
from modelmax_async._runtime import clock
from modelmax_async.ledger.attempts import observed
from modelmax_async.ledger.memory_keys import MemoryKeys
from modelmax_async.ledger.moves import Claim, Move, Store
from modelmax_async.ledger.protocol import Key, SubmitKey
from modelmax_async.ledger.submissions import SubmitStep
from modelmax_async.ledger.transitions import Step, job_step

_log = logging.getLogger("modelmax_async")

#: The fraction of a bound that is warned about, and the one below which the warning is reset.
_NEARLY, _CALM = 0.8, 0.6
_SLICE = 256  #: Entries that are listed in one turn of the event loop: a millisecond or two.


class _Dropped(NamedTuple):
    """The remains of a job whose delivered body was dropped."""

    model: str
    attempt: str | None
    since: float
    job: Job | None  # only if it is not `make_job` of the model and the key's request id

    def entry(self, key: Key) -> LedgerEntry:
        """Return the entry that it stands for."""
        job = self.job or make_job(self.model, key.request_id)
        return LedgerEntry(job=job, state="delivered", since=self.since, attempt=self.attempt)


@always_shown
class MemoryLedger:
    """The default ledger. Its contents end with the process: use a `SQLiteLedger` to keep them.

    It is bounded, and never drops an undelivered paid result. If it is full, it first drops the
    oldest results that were delivered to a caller: such a job keeps about 500 bytes, without
    limit, and is not fetched again without the user's consent. Then it forgets the oldest jobs
    that are known or failed. Full of undelivered results and uncertain jobs, it refuses further
    billed calls. Clients of several event loops may share it.

    Args:
        max_entries: the most jobs, apart from those whose result was dropped; and the most keys
            of submits, which are never dropped.
        max_body_bytes: the bytes of paid responses at which it refuses further claims.

    Raises:
        ValueError: for a bound below 1.
    """

    def __init__(
        self, *, max_entries: int = 250_000, max_body_bytes: int = 256 * 1024 * 1024
    ) -> None:
        for name, value in (("max_entries", max_entries), ("max_body_bytes", max_body_bytes)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
        self._max_entries, self._max_body_bytes = max_entries, max_body_bytes
        self._entries: dict[Key, LedgerEntry] = {}
        self._spare: OrderedDict[Key, None] = OrderedDict()  # known or failed: owe nothing
        self._given: OrderedDict[Key, None] = OrderedDict()  # stored, and delivered
        self._dropped: dict[Key, _Dropped] = {}
        self._keys = MemoryKeys(max_entries)
        self._durations: dict[tuple[str, str, int], bytes] = {}
        self._body_bytes = self._given_bytes = 0
        self._warned = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        jobs = len(self._entries) + len(self._dropped)
        return f"<MemoryLedger: {jobs} jobs, {self._body_bytes} bytes of results>"

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        """Take one `step` under a lock, see `Ledger.apply`; a full ledger raises."""
        if isinstance(key, SubmitKey):
            with self._lock:
                return self._keys.apply(key, move)
        with self._lock:
            before = self._find(key)
            done = job_step(before, move, clock.wall())
            if done is not None and done.deleted:
                self._delete(key)
            elif done is not None and done.entry is not before:
                if isinstance(move, Claim) and done.granted:
                    self._make_room_for_a_body()
                if key not in self._entries:
                    self._make_room_for_a_job(refuse=not isinstance(move, Store))
                self._file(key, done.entry)
                self._drop_bodies(self._max_body_bytes)
            warning = self._warning()
        if warning is not None:  # outside the lock: a handler may use this very ledger
            _log.warning("%s", warning)
        return done

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        """Return the entries of an origin in these states, see `Ledger.entries`."""
        now = clock.wall()
        with self._lock:
            mine = [entry for key, entry in self._entries.items() if key.origin == origin]
            if "delivered" in states:
                dropped = self._dropped.items()
                mine[:0] = [kept.entry(key) for key, kept in dropped if key.origin == origin]
            if "known" in states:
                submitted = self._keys.submitted(origin)
                mine += [e for e in submitted if not self._has(Key(origin, e.job.request_id))]
        found: list[LedgerEntry] = []
        for start in range(0, len(mine), _SLICE):
            if start:  # a short list never waits
                await asyncio.sleep(0)
            seen = (observed(entry, now) for entry in mine[start : start + _SLICE])
            found += (evolve(entry, body=None) for entry in seen if entry.state in states)
        return found

    async def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        """Return the records of an origin by model, see `KeepsDurations`."""
        with self._lock:
            kept = self._durations.items()
            return {m: record for (o, m, v), record in kept if (o, v) == (origin, version)}

    async def add_durations(
        self, origin: str, model: str, version: int, add: Callable[[bytes | None], bytes]
    ) -> bytes:
        """Add to one record, see `KeepsDurations`."""
        key = (origin, model, version)
        with self._lock:
            record = self._durations[key] = add(self._durations.get(key))
        return record

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close, and the results stay available."""

    def delivered(self, key: Key) -> None:
        """Note that the stored result was delivered to a caller, and may be dropped.

        Args:
            key: the key of the job's entry.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.state != "stored" or key in self._given:
                return
            self._given[key] = None
            self._given_bytes += _weight(entry)
            self._drop_bodies(self._max_body_bytes)
            self._warning()  # may reset the warning

    def _has(self, key: Key) -> bool:
        """Whether the job has an entry that says more than its submission."""
        entry = self._find(key)
        return entry is not None and (entry.acknowledged or entry.state != "known")

    def _find(self, key: Key) -> LedgerEntry | None:
        dropped = self._dropped.get(key)
        return self._entries.get(key) if dropped is None else dropped.entry(key)

    def _file(self, key: Key, entry: LedgerEntry) -> None:
        """Replace what is recorded of the job."""
        if entry.state == "delivered":
            self._drop(key, entry)
            return
        self._dropped.pop(key, None)
        self._forget_delivery(key)
        self._body_bytes += _weight(entry) - _weight(self._entries.get(key))
        self._entries[key] = entry
        if entry.state in {"known", "failed"}:
            self._spare[key] = None
        else:
            self._spare.pop(key, None)

    def _delete(self, key: Key) -> None:
        del self._entries[key]
        self._spare.pop(key, None)

    def _forget_delivery(self, key: Key) -> None:
        if key in self._given:
            del self._given[key]
            self._given_bytes -= _weight(self._entries[key])

    def _drop(self, key: Key, entry: LedgerEntry) -> None:
        """Keep only that a delivered result was paid for."""
        self._forget_delivery(key)
        self._body_bytes -= _weight(self._entries.pop(key, None))
        job = evolve(entry.job, submitted_at=None)  # of no use any more
        plain = key.request_id == job.request_id and job == make_job(job.model, job.request_id)
        kept = None if plain else job
        self._dropped[key] = _Dropped(job.model, entry.attempt, clock.wall(), kept)

    def _drop_oldest(self) -> None:
        key = next(iter(self._given))
        self._drop(key, self._entries[key])

    def _drop_bodies(self, most: int) -> None:
        while self._given and self._body_bytes > most:
            self._drop_oldest()

    def _make_room_for_a_body(self) -> None:
        self._drop_bodies(self._max_body_bytes - 1)
        if self._body_bytes >= self._max_body_bytes:
            raise LedgerError(
                f"the MemoryLedger is full: it holds {self._body_bytes} bytes of paid results "
                "that are not delivered yet. No billed call was made: wait for those jobs, use "
                "a SQLiteLedger, or pass a larger max_body_bytes"
            )

    def _make_room_for_a_job(self, *, refuse: bool) -> None:
        while len(self._entries) >= self._max_entries and (self._given or self._spare):
            if self._given:
                self._drop_oldest()
            else:
                del self._entries[self._spare.popitem(last=False)[0]]
        if refuse and len(self._entries) >= self._max_entries:
            raise LedgerError(
                f"the MemoryLedger is full: all of its {self._max_entries} jobs are uncertain, "
                "in progress, or paid for and not delivered yet. No billed call was made: wait "
                "for those jobs, use a SQLiteLedger, or pass a larger max_entries"
            )

    def _warning(self) -> str | None:
        """Return a warning that the ledger is nearly full, once until it is reset."""
        jobs = len(self._entries) - len(self._spare) - len(self._given)
        size = self._body_bytes - self._given_bytes
        part = max(jobs / self._max_entries, size / self._max_body_bytes)
        news = part >= _NEARLY and not self._warned
        self._warned = part >= (_CALM if self._warned else _NEARLY)
        if not news:
            return None
        return (
            f"the MemoryLedger is nearly full: {jobs} of {self._max_entries} jobs and {size} "
            f"of {self._max_body_bytes} bytes belong to jobs that are uncertain, in progress "
            "or undelivered. A full one refuses billed calls: use a SQLiteLedger, or pass a "
            "larger max_entries and max_body_bytes"
        )


def _weight(entry: LedgerEntry | None) -> int:
    return 0 if entry is None or entry.body is None else len(entry.body)

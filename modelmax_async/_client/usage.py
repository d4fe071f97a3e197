"""Usage added up over a ledger: a bounded number of paid responses in memory at a time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Literal

import attrs

from modelmax_async._api.endpoints import parse_result
from modelmax_async._billing.records import Records
from modelmax_async._errors import InvalidResponseError
from modelmax_async._models import LedgerEntry, LedgerState, LedgerUsage, ModelUsage, Result
from modelmax_async._runtime.threads import in_thread
from modelmax_async.ledger import Look
from modelmax_async.ledger.attempts import before, is_held

#: Responses that are read at once. One has 8 MiB at most: a video in a ``data:`` URL.
_CHUNK = 64
#: The states of jobs that are paid for, or may be.
_STATES: frozenset[LedgerState] = frozenset(
    {"stored", "delivered", "claimed", "armed", "uncertain", "abandoned"}
)
_Charge = Literal["paid", "dropped", "uncertain", "none"]


async def usage_of(records: Records) -> LedgerUsage:
    """Add up the paid results of a ledger; the responses are parsed in a thread.

    Raises:
        LedgerError: if the ledger fails.
    """
    total = Total()
    paid = []
    for entry in await records.entries(_STATES):
        if charge_of(entry) == "paid":
            paid.append(entry.job)
        else:
            total.add(entry)
    for start in range(0, len(paid), _CHUNK):
        looks = (records.ask(job, Look(job)) for job in paid[start : start + _CHUNK])
        found = [step.entry for step in await asyncio.gather(*looks) if step is not None]
        await in_thread(total.add_all, found)
    return total.usage


def charge_of(entry: LedgerEntry) -> _Charge:
    """Return whether a job is paid for: what an attempt in progress adds is uncertain."""
    state = before(entry) if is_held(entry) else entry.state
    if state == "stored":
        return "paid"
    if state == "delivered":
        return "dropped"
    # A job that was given up has a phase only if its billed call may have been charged.
    given_up = state == "abandoned" and entry.phase is not None
    if state == "uncertain" or given_up or entry.state == "armed":
        return "uncertain"
    return "none"


class Total:
    """What has been added up so far."""

    def __init__(self) -> None:
        self._models: defaultdict[str, ModelUsage] = defaultdict(ModelUsage)
        self._others: Counter[str] = Counter()

    @property
    def usage(self) -> LedgerUsage:
        """The sum."""
        models = dict(sorted(self._models.items()))
        return LedgerUsage(
            results=sum(each.results for each in models.values()),
            videos=sum(each.videos for each in models.values()),
            seconds=sum((each.seconds for each in models.values()), 0.0),
            by_model=models,
            unmetered=self._others["unmetered"],
            unreadable=self._others["unreadable"],
            dropped=self._others["dropped"],
            uncertain=self._others["uncertain"],
        )

    def add_all(self, entries: Iterable[LedgerEntry]) -> None:
        """Add entries, with their bodies."""
        for entry in entries:
            self.add(entry)

    def add(self, entry: LedgerEntry) -> None:
        """Add one entry; a paid one with its body."""
        charge = charge_of(entry)
        if charge != "paid":
            self._others[charge] += 1
            return
        try:
            result = parse_result(entry.body or b"", entry.job)
        except InvalidResponseError:
            self._others["unreadable"] += 1
        else:
            self._add_result(result)

    def _add_result(self, result: Result) -> None:
        seconds = result.usage.video_seconds
        self._others["unmetered"] += seconds is None
        so_far = self._models[result.model]
        self._models[result.model] = attrs.evolve(
            so_far,
            results=so_far.results + 1,
            videos=so_far.videos + len(result.videos),
            seconds=so_far.seconds + (seconds or 0),
        )

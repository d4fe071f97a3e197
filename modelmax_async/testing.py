"""Helpers for tests of your own: the conformance suite of ledgers, and the emulator.

``check_ledger`` is what `MemoryLedger` and `SQLiteLedger` are tested with. Run it on a ledger
that you wrote; it raises `AssertionError` with a sentence about the promise that is broken.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from modelmax_async._models import UNFINISHED, Job, LedgerEntry
from modelmax_async._wire import make_job
from modelmax_async.emulator import Emulator
from modelmax_async.ledger import (
    Arm,
    Claim,
    Doubt,
    Fail,
    Key,
    Ledger,
    Move,
    Release,
    Remember,
    Renew,
    Store,
)

__all__ = ["Emulator", "check_ledger"]

_LONG = 60.0
_BODY = b'{"status": "COMPLETED"}\x00\xff' + bytes(range(256)) * 1000


def _check(holds: bool, promise: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    if not holds:
        raise AssertionError(f"a ledger breaks a promise: {promise}")


class _View:
    """One job of its own, seen through one handle on the store."""

    def __init__(self, ledger: Ledger, job: Job | None = None) -> None:
        self.ledger = ledger
        self.job = job or make_job("veo-3", f"check/{uuid.uuid4().hex}=é")
        self.key = Key("https://check.invalid:443", self.job.request_id)

    def through(self, ledger: Ledger) -> _View:
        return _View(ledger, self.job)

    async def take(self, move: Move) -> tuple[LedgerEntry | None, bool]:
        done = await self.ledger.apply(self.key, move)
        return (None, False) if done is None else (done.entry, done.granted)

    async def expect(
        self, promise: str, move: Move, state: str, *, granted: bool
    ) -> LedgerEntry:
        entry, was_granted = await self.take(move)
        if entry is None or (state, granted) != (entry.state, was_granted):
            raise AssertionError(f"a ledger breaks a promise: {promise}; it says {entry}")
        return entry

    def claim(self, attempt: str, lease: float = _LONG, accept: str | None = None) -> Claim:
        return Claim(self.job, f"owner of {attempt}", attempt, lease, accept)

    async def arm(self, attempt: str, lease: float = _LONG) -> None:
        await self.expect(
            "a free job can be claimed", self.claim(attempt), "claimed", granted=True
        )
        await self.expect("a claim can be armed", Arm(attempt, lease), "armed", granted=True)


async def check_ledger(ledger: Ledger, other: Ledger | None = None) -> None:
    """Check every promise that the settler relies on.

    Args:
        ledger: the ledger, with any contents; jobs of an origin of its own are added.
        other: a second handle on the same store, such as another process would have.

    Raises:
        AssertionError: names the promise that is broken.
    """
    for check in _CHECKS:
        await check(ledger, other or ledger)


async def _remembers(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    entry, _ = await view.take(Arm("a", _LONG))
    _check(entry is None, "a job that was never seen has no entry")
    await view.expect("a new job is known", Remember(view.job), "known", granted=True)
    again = await view.through(other).expect(
        "a job is remembered once, for every handle", Remember(view.job), "known", granted=False
    )
    _check(view.job == again.job, "a job comes back equal")


async def _one_claim_wins(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    views = [view, view.through(other)] * 20
    claims = (v.take(v.claim(f"attempt {n}")) for n, v in enumerate(views))
    taken = await asyncio.gather(*claims)
    winners = [granted for _, granted in taken]
    _check(winners.count(True) == 1, "of many claims at once, one is granted")


async def _arming_is_compare_and_set(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    await view.expect("claimed", view.claim("slow", lease=0.0), "claimed", granted=True)
    await view.expect(
        "a lease that ran out cannot be armed", Arm("slow", _LONG), "claimed", granted=False
    )
    await view.expect("nor renewed", Renew("slow", _LONG), "claimed", granted=False)
    there = view.through(other)
    await there.expect("its job is free again", there.claim("next"), "claimed", granted=True)
    await view.expect("the slow one stays out", Arm("slow", _LONG), "claimed", granted=False)
    await there.expect("the next one arms", Arm("next", _LONG), "armed", granted=True)
    await there.expect("arming twice is refused", Arm("next", _LONG), "armed", granted=False)
    await view.expect("an armed job is never claimed", view.claim("x"), "armed", granted=False)


async def _armed_and_gone_is_uncertain(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    await view.arm("gone", lease=0.0)
    there = view.through(other)
    found = await there.ledger.entries(there.key.origin, {"uncertain"})
    _check(view.job in [entry.job for entry in found], "entries() tells it too")
    entry = await there.expect(
        "armed by one who is gone is uncertain", there.claim("x"), "uncertain", granted=False
    )
    _check(entry.phase == "sent", "and nothing says that it was answered")
    wrong = there.claim("x", accept="another attempt")
    await there.expect("a decision names its attempt", wrong, "uncertain", granted=False)
    late = Store(view.job, "gone", _BODY)
    await view.expect("a late answer is still stored", late, "stored", granted=True)


async def _renewed_is_alive(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    await view.arm("alive", lease=0.0)
    await view.expect("an armed attempt renews", Renew("alive", _LONG), "armed", granted=True)
    there = view.through(other)
    await there.expect("and counts as alive", Remember(view.job), "armed", granted=False)


async def _stored_stays(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    await view.arm("a")
    await view.expect("stored", Store(view.job, "a", _BODY), "stored", granted=True)
    await ledger.aclose()
    there = view.through(other)
    entry = await there.expect("stored is final", there.claim("b"), "stored", granted=False)
    _check(entry.body == _BODY, "the body comes back byte for byte, after aclose() too")
    for move in (Release("a"), Fail("late"), Doubt("a", "sent", "late")):
        await there.expect("nothing takes it back", move, "stored", granted=False)
    lost = _View(ledger)
    kept = Store(lost.job, "a", _BODY)
    await lost.expect("a body is kept even without an entry", kept, "stored", granted=True)


async def _release_frees(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    await view.arm("a")
    await view.expect("another's release is refused", Release("b"), "armed", granted=False)
    await view.expect("released", Release("a"), "known", granted=True)
    there = view.through(other)
    await there.expect("and free", there.claim("b"), "claimed", granted=True)


async def _doubt_needs_a_decision(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    await view.arm("a")
    doubt = Doubt("a", "answered", "it broke off")
    entry = await view.expect("in doubt", doubt, "uncertain", granted=True)
    _check((entry.phase, entry.cause) == ("answered", "it broke off"), "with its cause")
    await view.expect("it is not claimed", view.claim("b"), "uncertain", granted=False)
    there = view.through(other)
    decided = there.claim("b", accept="a")
    await there.expect("but by decision", decided, "claimed", granted=True)
    await there.expect("a call that proves free", Release("b"), "uncertain", granted=True)


async def _failed_is_final(ledger: Ledger, other: Ledger) -> None:
    view = _View(ledger)
    await view.take(Remember(view.job))
    entry = await view.expect("failed", Fail("blocked é"), "failed", granted=True)
    _check(entry.error == "blocked é", "with the server's text")
    there = view.through(other)
    await there.expect("and final", there.claim("a"), "failed", granted=False)


async def _lists_by_origin_and_state(ledger: Ledger, other: Ledger) -> None:
    first, second = _View(ledger), _View(ledger)
    await first.take(Remember(first.job))
    await second.take(Remember(second.job))
    await second.take(Store(second.job, "a", _BODY))
    jobs = [e.job for e in await other.entries(first.key.origin, UNFINISHED)]
    _check(first.job in jobs, "entries() lists what is unfinished")
    _check(second.job not in jobs, "and not what is stored")
    stored = await other.entries(first.key.origin, {"stored"})
    _check(second.job in [e.job for e in stored], "unless asked for")
    _check({e.body for e in stored} == {None}, "without the bodies")
    elsewhere = await other.entries("https://elsewhere.invalid:443", UNFINISHED)
    _check(elsewhere == [], "an origin sees its own jobs only")


_CHECKS: tuple[Callable[[Ledger, Ledger], Awaitable[None]], ...] = (
    _remembers,
    _one_claim_wins,
    _arming_is_compare_and_set,
    _armed_and_gone_is_uncertain,
    _renewed_is_alive,
    _stored_stays,
    _release_frees,
    _doubt_needs_a_decision,
    _failed_is_final,
    _lists_by_origin_and_state,
)

"""Promises about paid results: kept byte for byte, and never paid again without consent."""

from __future__ import annotations

from modelmax_async._models import UNFINISHED
from modelmax_async.ledger import Fail, Ledger, Release, Remember, Store, Uncertain
from modelmax_async.testing._view import READABLE, UNREADABLE, Check, View, check


async def _stored_stays(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    await view.arm("a")
    await view.granted("stored", Store(view.job, "a", UNREADABLE), "stored")
    await ledger.aclose()
    there = view.through(other)
    entry = await there.refused("stored is final", there.claim("b"), "stored")
    check(entry.body == UNREADABLE, "the body is returned byte for byte, after aclose() too")
    for move in (Release("a"), Fail("late"), Fail("late", "a"), Uncertain("a", "sent", "late")):
        await there.refused("no move changes a stored result", move, "stored")
    lost = View(ledger)
    kept = Store(lost.job, "a", UNREADABLE)
    await lost.granted("a body is stored even without an entry", kept, "stored")


async def _readable_is_never_paid_again(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    await view.arm("a")
    await view.granted("stored", Store(view.job, "a", READABLE), "stored")
    there = view.through(other)
    again = there.claim("b", accept="a")
    await there.refused("a readable result is never paid for again", again, "stored")
    unreadable = View(ledger)
    await unreadable.arm("a")
    await unreadable.granted("stored", Store(unreadable.job, "a", UNREADABLE), "stored")
    there = unreadable.through(other)
    again = there.claim("b", accept="a")
    await there.granted("an unreadable result can be paid for again", again, "claimed")
    left = await there.granted("a decided call can be unbilled", Release("b"), "stored")
    check(
        (left.attempt, left.body) == ("a", UNREADABLE),
        "an unbilled call leaves the earlier result",
    )


async def _readable_beats_unreadable(ledger: Ledger, other: Ledger) -> None:
    promise = "a readable result replaces an unreadable one, whichever arrives first"
    for first, second in ((READABLE, UNREADABLE), (UNREADABLE, READABLE)):
        for attempts in (("a", "b"), ("b", "a")):
            view = View(ledger)
            await view.arm("a")
            await view.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
            await view.arm("b", accept="a")
            await view.take(Store(view.job, attempts[0], first))
            await view.through(other).take(Store(view.job, attempts[1], second))
            entry = await view.look(promise, "stored")
            check(entry.body == READABLE, promise)


async def _late_result_displaces_no_call(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    there = view.through(other)
    await view.arm("a")
    await view.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
    await there.arm("b", accept="a")
    late = Store(view.job, "a", UNREADABLE)
    promise = "an unreadable late result displaces no call in flight"
    kept = await view.granted(promise, late, "armed")
    check((kept.attempt, kept.body) == ("b", UNREADABLE), f"{promise}, and is kept")
    left = await there.granted("a decided call can be unbilled", Release("b"), "stored")
    check(left.body == UNREADABLE, "an unbilled call leaves the earlier result")


async def _delivered_is_not_fetched_again(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    await view.arm("a")
    await view.granted("stored", Store(view.job, "a", READABLE), "stored")
    for handle in (ledger, other):
        if (delivered := getattr(handle, "delivered", None)) is not None:
            delivered(view.key)
    entry, granted = await view.through(other).take(view.claim("b"))
    paid = entry is not None and entry.state in {"stored", "delivered"}
    check(paid and not granted, "a result that was delivered is not fetched again")


async def _lists_by_origin_and_state(ledger: Ledger, other: Ledger) -> None:
    first, second, third = View(ledger), View(ledger), View(ledger)
    for view in (first, second, third):
        await view.take(Remember(view.job))
    await second.take(Store(second.job, "a", UNREADABLE))
    mine = {view.job for view in (first, second, third)}
    found = await other.entries(first.key.origin, UNFINISHED)
    jobs = [entry.job for entry in found if entry.job in mine]
    check(first.job in jobs, "entries() lists the unfinished jobs")
    check(second.job not in jobs, "entries() omits states that were not requested")
    check(jobs == [first.job, third.job], "entries() lists the oldest job first")
    stored = await other.entries(first.key.origin, {"stored"})
    check(second.job in [e.job for e in stored], "entries() lists stored jobs on request")
    check({e.state for e in stored} == {"stored"}, "entries() lists the requested states only")
    check({e.body for e in stored} == {None}, "entries() omits the bodies")
    elsewhere = await other.entries("https://elsewhere.invalid:443", UNFINISHED)
    check(elsewhere == [], "a list has the jobs of one origin only")


RESULTS: tuple[Check, ...] = (
    _stored_stays,
    _readable_is_never_paid_again,
    _readable_beats_unreadable,
    _late_result_displaces_no_call,
    _delivered_is_not_fetched_again,
    _lists_by_origin_and_state,
)

"""Promises about paid results: kept byte for byte, and never paid again without consent."""

from __future__ import annotations

import asyncio

from modelmax_async._models import UNFINISHED
from modelmax_async.ledger import (
    Fail,
    KeepsDurations,
    Release,
    Remember,
    Store,
    Uncertain,
)
from modelmax_async.testing._view import READABLE, UNREADABLE, Check, View, check


async def _stored_stays(view: View, there: View) -> None:
    await view.arm("a")
    await view.granted("stored", Store(view.job, "a", UNREADABLE), "stored")
    await view.ledger.aclose()
    entry = await there.refused("stored is final", there.claim("b"), "stored")
    check(entry.body == UNREADABLE, "the body is returned byte for byte, after aclose() too")
    for move in (Release("a"), Fail("late"), Fail("late", "a"), Uncertain("a", "sent", "late")):
        await there.refused("no move changes a stored result", move, "stored")
    lost = view.another_job()
    kept = Store(lost.job, "a", UNREADABLE)
    await lost.granted("a body is stored even without an entry", kept, "stored")


async def _readable_is_never_paid_again(view: View, there: View) -> None:
    await view.arm("a")
    await view.granted("stored", Store(view.job, "a", READABLE), "stored")
    again = there.claim("b", accept="a")
    await there.refused("a readable result is never paid for again", again, "stored")


async def _unreadable_can_be_paid_again(view: View, there: View) -> None:
    await view.arm("a")
    await view.granted("stored", Store(view.job, "a", UNREADABLE), "stored")
    again = there.claim("b", accept="a")
    await there.granted("an unreadable result can be paid for again", again, "claimed")
    left = await there.granted("a decided call can be unbilled", Release("b"), "stored")
    check(
        (left.attempt, left.body) == ("a", UNREADABLE),
        "an unbilled call leaves the earlier result",
    )


async def _readable_beats_unreadable(view: View, there: View) -> None:
    promise = "a readable result replaces an unreadable one, whichever arrives first"
    for first, second in ((READABLE, UNREADABLE), (UNREADABLE, READABLE)):
        for attempts in (("a", "b"), ("b", "a")):
            each = view.another_job()
            await each.arm("a")
            await each.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
            await each.arm("b", accept="a")
            await each.take(Store(each.job, attempts[0], first))
            await each.through(there.ledger).take(Store(each.job, attempts[1], second))
            entry = await each.look(promise, "stored")
            check(entry.body == READABLE, promise)


async def _late_result_displaces_no_call(view: View, there: View) -> None:
    await view.arm("a")
    await view.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
    await there.arm("b", accept="a")
    late = Store(view.job, "a", UNREADABLE)
    promise = "an unreadable late result displaces no call in flight"
    kept = await view.granted(promise, late, "armed")
    check((kept.attempt, kept.body) == ("b", UNREADABLE), f"{promise}, and is kept")
    left = await there.granted("a decided call can be unbilled", Release("b"), "stored")
    check(left.body == UNREADABLE, "an unbilled call leaves the earlier result")


async def _delivered_is_not_fetched_again(view: View, there: View) -> None:
    await view.arm("a")
    await view.granted("stored", Store(view.job, "a", READABLE), "stored")
    for handle in (view, there):
        if (delivered := getattr(handle.ledger, "delivered", None)) is not None:
            delivered(view.key)
    entry, granted = await there.take(view.claim("b"))
    paid = entry is not None and entry.state in {"stored", "delivered"}
    check(paid and not granted, "a result that was delivered is not fetched again")


async def _lists_by_origin_and_state(view: View, there: View) -> None:
    second, third = view.another_job(), view.another_job()
    for each in (view, second, third):
        await each.take(Remember(each.job))
    await second.take(Store(second.job, "a", UNREADABLE))
    found = await there.ledger.entries(view.key.origin, UNFINISHED)
    jobs = [e.job for e in found if e.job in {view.job, second.job, third.job}]
    check(view.job in jobs, "entries() lists the unfinished jobs")
    check(second.job not in jobs, "entries() omits states that were not requested")
    check(jobs == [view.job, third.job], "entries() lists the oldest job first")
    stored = await there.ledger.entries(view.key.origin, {"stored"})
    check(second.job in [e.job for e in stored], "entries() lists stored jobs on request")
    check({e.state for e in stored} == {"stored"}, "entries() lists the requested states only")
    check({e.body for e in stored} == {None}, "entries() omits the bodies")
    elsewhere = await there.ledger.entries("https://elsewhere.invalid:443", UNFINISHED)
    check(elsewhere == [], "a list has the jobs of one origin only")


async def _durations_add_up(view: View, there: View) -> None:
    here, far = view.ledger, there.ledger
    names = ("load_durations", "add_durations")
    both = len({hasattr(here, name) for name in names}) == 1
    check(both, "a ledger has both load_durations() and add_durations(), or neither")
    if not isinstance(here, KeepsDurations) or not isinstance(far, KeepsDurations):
        return
    model, other, origin = view.key.request_id, there.another_job().key.request_id, "check"
    await here.add_durations(origin, model, 1, lambda old: (old or b"") + b"\x00a")
    await here.add_durations(origin, other, 1, lambda _: b"other")
    await here.add_durations(origin, model, 2, lambda old: (old or b"") + b"later")
    added = await far.add_durations(origin, model, 1, lambda old: (old or b"") + b"\xffb")
    check(added == b"\x00a\xffb", "add_durations() adds to the record, and returns it")
    found = await here.load_durations(origin, 1)
    check(found.get(model) == added, "load_durations() returns the records of one version")
    check(found.get(other) == b"other", "load_durations() returns the records of every model")
    adding = (
        ledger.add_durations(origin, other, 1, lambda old: (old or b"") + b"+")
        for ledger in (here, far) * 10
    )
    await asyncio.gather(*adding)
    found = await here.load_durations(origin, 1)
    together = found.get(other) == b"other" + b"+" * 20
    check(together, "add_durations() loses nothing that is added at the same time")
    elsewhere = await here.load_durations("https://elsewhere.invalid:443", 1)
    check(not elsewhere, "load_durations() returns the records of one origin only")


RESULTS: tuple[Check, ...] = (
    _stored_stays,
    _readable_is_never_paid_again,
    _unreadable_can_be_paid_again,
    _readable_beats_unreadable,
    _late_result_displaces_no_call,
    _delivered_is_not_fetched_again,
    _lists_by_origin_and_state,
    _durations_add_up,
)

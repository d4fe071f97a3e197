"""Promises about the keys of submits: each belongs to one request, and to one job."""

from __future__ import annotations

import asyncio

import attrs

from modelmax_async.ledger import (
    Bind,
    Forget,
    Move,
    Release,
    Remember,
    Renew,
    Reserve,
    Submission,
    SubmitKey,
    SubmitStep,
    Uncertain,
)
from modelmax_async.testing._view import LONG, Check, View, check


async def _take(view: View, key: SubmitKey, move: Move) -> SubmitStep | None:
    done = await view.ledger.apply(key, move)
    check(done is None or isinstance(done, SubmitStep), "apply() takes a SubmitKey")
    return done if isinstance(done, SubmitStep) else None


async def _must(
    promise: str, view: View, key: SubmitKey, move: Move, *, granted: bool = True
) -> Submission:
    done = await _take(view, key, move)
    if done is None or done.granted is not granted:
        raise AssertionError(f"a ledger breaks a promise: {promise}; it returned {done}")
    return done.entry


def _key(view: View) -> SubmitKey:
    return SubmitKey(view.key.origin, f"key of {view.key.request_id}")


async def _one_reservation_wins(view: View, there: View) -> None:
    key = _key(view)
    check(await _take(view, key, Renew("a", LONG)) is None, "an unknown key has no submission")
    views = enumerate([view, there] * 20)
    reserves = (_take(each, key, Reserve("print", f"a{n}", LONG)) for n, each in views)
    taken = await asyncio.gather(*reserves)
    winners = [done for done in taken if done is not None and done.granted]
    check(len(winners) == 1, "of many reservations of a key at the same time, one is granted")
    seen = await _must(
        "a reservation is seen", there, key, Reserve("x", "x", LONG), granted=False
    )
    check(seen == winners[0].entry, "every field of a submission is returned equal")


async def _first_job_wins(view: View, there: View) -> None:
    key = _key(view)
    job = attrs.evolve(view.job, key=key.key)
    other = attrs.evolve(there.another_job().job, key=key.key)
    await _must("a new key can be reserved", view, key, Reserve("print", "a", LONG))
    bound = await _must("a key is bound to its job", there, key, Bind("print", "a", job))
    check(bound.job == job, "a submission has its job, returned equal")
    await view.ledger.aclose()
    late = await _must(
        "the first job wins", view, key, Bind("print", "b", other), granted=False
    )
    again = Reserve("print", "c", LONG)
    kept = await _must("a bound key is not reserved again", there, key, again, granted=False)
    check(late == bound == kept, "the first job that is recorded for a key stays")
    unknown = SubmitKey(key.origin, f"{key.key} again")
    bind = Bind("print", "a", attrs.evolve(other, key=unknown.key))
    await _must("a job is bound even without a reservation", view, unknown, bind)


async def _keys_are_taken_over(view: View, there: View) -> None:
    key = _key(view)
    first = await _must("reserved", view, key, Reserve("print", "a", 0.0))
    await _must("a reservation is renewed", view, key, Renew("a", LONG))
    stale = Reserve("print", "b", LONG, first.lease_until)
    promise = "a reservation that was renewed is not taken over"
    held = await _must(promise, there, key, stale, granted=False)
    taking = Reserve("print", "b", LONG, held.lease_until)
    await _must("a lease that stands still can be taken over", there, key, taking)
    for move in (Release("a"), Uncertain("a", "sent", "late"), Renew("a", LONG)):
        await _must("the former owner is refused", view, key, move, granted=False)
    await _must(
        "the outcome may be unknown", there, key, Uncertain("b", "sent", "it broke off")
    )
    await _must("it can be sent again at once", view, key, Reserve("print", "c", LONG))
    await _must("a refused submit frees its key", view, key, Release("c"))
    await _must("a free key is for any request", there, key, Reserve("another", "d", LONG))


async def _key_lists_its_job(view: View, there: View) -> None:
    key = _key(view)
    job = attrs.evolve(view.job, key=key.key)
    await _must("bound", view, key, Bind("print", "a", job))
    listed = [e for e in await there.ledger.entries(key.origin, {"known"}) if e.job == job]
    promise = "entries() lists a submitted job without an entry as known and acknowledged, once"
    check([entry.acknowledged for entry in listed] == [True], promise)
    none = [e for e in await there.ledger.entries(key.origin, {"stored"}) if e.job == job]
    check(not none, "entries() omits states that were not requested")
    view = View(view.ledger, job)
    await view.granted("a new job is known", Remember(job), "known")
    listed = [e for e in await there.ledger.entries(key.origin, {"known"}) if e.job == job]
    check(len(listed) == 1, promise)
    wrong = Forget(f"not {job.request_id}")
    await _must("a key is freed for its own job only", there, key, wrong, granted=False)
    await _must("a forgotten job frees its key", there, key, Forget(job.request_id))
    await _must("a free key is for any request", view, key, Reserve("another", "d", LONG))


KEYS: tuple[Check, ...] = (
    _one_reservation_wins,
    _first_job_wins,
    _keys_are_taken_over,
    _key_lists_its_job,
)

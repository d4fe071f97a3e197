"""Promises about what is marked as saved, pruned and forgotten."""

from __future__ import annotations

from modelmax_async.ledger import (
    Arm,
    Claim,
    Forget,
    Key,
    Ledger,
    Look,
    MarkSaved,
    Move,
    Prune,
    Release,
    Remember,
    Step,
    Store,
    Uncertain,
)
from modelmax_async.testing._view import LONG, READABLE, Check, View, check

#: Later than any clock.
_EVER = 1e11


async def _saved_mark_stays(view: View, there: View) -> None:
    await view.take(Remember(view.job))
    await there.refused("only a paid result is marked as saved", MarkSaved(), "known")
    await view.arm("a")
    await view.granted("stored", Store(view.job, "a", READABLE), "stored")
    await there.refused("a result that is not saved is not pruned", Prune(_EVER), "stored")
    marked = await there.granted("a stored result is marked as saved", MarkSaved(), "stored")
    listed = await view.listed("stored")
    seen = {None if entry is None else entry.saved_at for entry in (marked, listed)}
    check(None not in seen and len(seen) == 1, "entries() tells when a result was saved")
    await there.refused("a result is pruned by when it was saved", Prune(0.0), "stored")
    pruned = await view.granted("a saved result is pruned", Prune(_EVER), "delivered")
    check(pruned.body is None, "a pruned result has no body")
    await there.refused("a pruned result is not paid for again", there.claim("b"), "delivered")
    entry = await there.look("a pruned result stays known as paid", "delivered")
    check(entry.attempt == "a" and entry.body is None, "a pruned entry names its attempt")


async def _deleted(ledger: Ledger, key: Key, move: Move, promise: str) -> None:
    done = await ledger.apply(key, move)
    check(isinstance(done, Step) and done.granted and done.deleted, promise)


async def _forgotten(view: View, there: View) -> None:
    forget = Forget(view.job.request_id)
    check(await view.take(forget) == (None, False), "an unknown job cannot be forgotten")
    known = view.another_job()
    await known.take(Remember(known.job))
    forget = Forget(known.job.request_id)
    handle = known.through(there.ledger)
    await handle.granted("a known job can be abandoned", forget, "abandoned")
    check(await handle.listed("known") is None, "an abandoned job is not listed as known")
    await known.refused("an abandoned job is not fetched", known.claim("late"), "abandoned")
    await known.refused("an abandoned job stays so", Remember(known.job), "abandoned")
    forget = Forget(view.job.request_id)
    await view.arm("a")
    await there.refused("a call in flight is not forgotten", forget, "armed")
    await view.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
    left = await there.granted("an uncertain job is abandoned", forget, "abandoned")
    check((left.phase, left.cause) == ("sent", "it broke off"), "an abandoned job tells why")
    await view.refused("an abandoned job is not fetched again", view.claim("b"), "abandoned")
    await view.granted("a late result is stored", Store(view.job, "a", READABLE), "stored")
    await there.refused("a paid result is never forgotten", forget, "stored")


async def _unknown_job_leaves_nothing(view: View, there: View) -> None:
    await view.granted("claimed", Claim(view.job, "me", "a", LONG), "claimed")
    await view.granted("armed", Arm("a", LONG), "armed")
    promise = "a job that the server does not know leaves nothing behind"
    await _deleted(there.ledger, view.key, Release("a", unknown=True), promise)
    entry, _ = await view.take(Look(view.job))
    check(entry is None, promise)


UPKEEP: tuple[Check, ...] = (_saved_mark_stays, _forgotten, _unknown_job_leaves_nothing)

"""Promises about claims, leases and decisions: who may make the billed call."""

from __future__ import annotations

import asyncio

from modelmax_async.ledger import (
    Arm,
    Claim,
    Fail,
    Ledger,
    Look,
    Release,
    Remember,
    Renew,
    Store,
    Uncertain,
)
from modelmax_async.testing._view import LONG, READABLE, Check, View, check


async def _remembers(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    for move in (Arm("a", LONG), Look(view.job), Release("a")):
        entry, _ = await view.take(move)
        check(entry is None, "a job that was never seen has no entry")
    await view.granted("a new job is known", Remember(view.job), "known")
    again = await view.through(other).refused(
        "a job is remembered once, for every handle", Remember(view.job), "known"
    )
    check(view.job == again.job, "a job comes back equal")


async def _acknowledged(ledger: Ledger, other: Ledger) -> None:
    view, there = View(ledger), View(ledger)
    unheard = await view.granted("claimed", view.claim("a"), "claimed")
    await view.granted("released", Release("a"), "known")
    listed = await view.through(other).listed("known")
    seen = await view.through(other).look("known to every handle", "known")
    told = {entry is not None and entry.acknowledged for entry in (unheard, listed, seen)}
    check(told == {False}, "a job that the server did not acknowledge is told as such")
    await view.granted("acknowledging is recorded", Remember(view.job), "known")
    seen = await view.through(other).look("and seen by every handle", "known")
    check(seen.acknowledged, "a job that the server acknowledged is told as such")
    heard = Claim(there.job, "owner", "a", LONG, acknowledged=True)
    entry = await there.granted("a claim can acknowledge a job", heard, "claimed")
    check(entry.acknowledged, "a claim can acknowledge a job")


async def _look_changes_nothing(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    claimed = await view.granted("claimed", view.claim("a"), "claimed")
    seen = await view.through(other).look("a look changes nothing", "claimed")
    check(claimed == seen, "a look changes nothing, and every field comes back equal")
    armed = await view.granted("armed", Arm("a", LONG), "armed")
    for handle in (ledger, other, ledger):
        seen = await view.through(handle).look("a look changes nothing", "armed")
        check(armed == seen, "a look changes nothing, and every field comes back equal")


async def _one_claim_wins(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    views = [view, view.through(other)] * 20
    claims = (v.take(v.claim(f"attempt {n}")) for n, v in enumerate(views))
    taken = await asyncio.gather(*claims)
    winners = [granted for _, granted in taken]
    check(winners.count(True) == 1, "of many claims at once, one is granted")


async def _arming_is_compare_and_set(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    there = view.through(other)
    slow = await view.granted("claimed", view.claim("slow", lease=0.0), "claimed")
    await there.refused("no claim is freed by the time of day", there.claim("x"), "claimed")
    taking = there.claim("next", takeover=slow.lease_until)
    await there.granted("a claim whose lease stands still can be taken over", taking, "claimed")
    for move in (Arm("slow", LONG), Renew("slow", LONG), Release("slow")):
        await view.refused("an owner that was taken over stays out", move, "claimed")
    await there.granted("the next one arms", Arm("next", LONG), "armed")
    await there.refused("arming twice is refused", Arm("next", LONG), "armed")
    await view.refused("an armed job is never claimed", view.claim("x"), "armed")


async def _armed_and_gone_is_uncertain(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    gone = await view.arm("gone", lease=0.0)
    there = view.through(other)
    listed = await there.listed("uncertain")
    check(listed is not None, "entries() lists an armed job as uncertain after its lease")
    await there.refused(
        "no call is taken for gone by the time of day", there.claim("x"), "armed"
    )
    until = gone.lease_until
    stale = there.claim("x", takeover=until - 1, accept="gone")
    await there.refused("a takeover names the lease that it has watched", stale, "armed")
    entry = await there.refused(
        "armed by a client that is gone is uncertain",
        there.claim("x", takeover=until),
        "uncertain",
    )
    check(entry.phase == "sent", "and nothing says that it was answered")
    await view.look("and stays so", "uncertain")
    wrong = there.claim("x", accept="another attempt")
    await there.refused("a decision names its attempt", wrong, "uncertain")
    await view.refused("its owner cannot renew it", Renew("gone", LONG), "uncertain")
    late = Store(view.job, "gone", READABLE)
    await view.granted("a late answer is still stored", late, "stored")


async def _renewals_change_the_lease(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    there = view.through(other)
    ends = [(await view.granted("claimed", view.claim("a"), "claimed")).lease_until]
    ends.append((await view.granted("armed", Arm("a", LONG), "armed")).lease_until)
    for lease in (LONG, LONG, 0.0, LONG):
        renewed = await view.granted("an armed attempt renews", Renew("a", lease), "armed")
        ends.append(renewed.lease_until)
    check(
        len(set(ends)) == len(ends) and sorted(ends) == ends,
        "every sign of life makes the lease end later, whatever the clock does",
    )
    for until in ends[:-1]:
        late = there.claim("x", accept="a", takeover=until)
        await there.refused("a lease that was renewed is not taken over", late, "armed")


async def _release_frees(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    await view.arm("a")
    await view.refused("another's release is refused", Release("b"), "armed")
    await view.granted("released", Release("a"), "known")
    await view.refused("releasing twice is refused", Release("a"), "known")
    there = view.through(other)
    await there.granted("and free", there.claim("b"), "claimed")
    late = View(ledger)
    gone = await late.arm("a", lease=0.0)
    await late.refused("gone", late.claim("x", takeover=gone.lease_until), "uncertain")
    proof = "a proof that nothing was billed counts after its owner was taken for gone"
    await late.granted(proof, Release("a"), "known")


async def _uncertain_job_needs_a_decision(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    await view.arm("a")
    uncertain = Uncertain("a", "answered", "it broke off")
    entry = await view.granted("uncertain", uncertain, "uncertain")
    check((entry.phase, entry.cause) == ("answered", "it broke off"), "with its cause")
    await view.refused("it is not claimed", view.claim("b"), "uncertain")
    there = view.through(other)
    told = await there.look("uncertain for every handle", "uncertain")
    check(entry == told, "an uncertain job and its cause come back equal")
    await there.arm("b", accept="a")
    free = "a decided call that proves free leaves the earlier outcome"
    entry = await there.granted(free, Release("b"), "uncertain")
    check(entry.attempt == "a", free)
    for move in (Release("b"), Fail("no", "b")):
        await view.refused("the same proof given twice frees nothing", move, "uncertain")
    await view.take(Release("a"))
    await view.look("nor does a proof of the earlier attempt, after a decision", "uncertain")


async def _decision_is_void(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    there = view.through(other)
    void = "a decision is void once anything else has happened"
    await view.arm("a")
    await view.refused("no call under way is raced", view.claim("x", accept="a"), "armed")
    await view.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
    await there.arm("b", accept="a")
    await view.refused(void, view.claim("x", accept="a"), "armed")
    await there.granted("uncertain again", Uncertain("b", "sent", "it broke off"), "uncertain")
    await view.refused(void, view.claim("x", accept="a"), "uncertain")
    await view.granted("a new one counts", view.claim("c", accept="b"), "claimed")
    entry = await view.granted("a claim given up", Release("c"), "uncertain")
    check(entry.attempt == "b", "a claim that was given up leaves the earlier outcome")


async def _failed_is_final(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    await view.take(Remember(view.job))
    entry = await view.granted("failed", Fail("blocked é"), "failed")
    check(entry.error == "blocked é", "with the server's text")
    there = view.through(other)
    entry = await there.refused("and final", there.claim("a"), "failed")
    check(entry.error == "blocked é", "with the server's text, for every handle")


async def _failed_settles_no_open_question(ledger: Ledger, other: Ledger) -> None:
    view = View(ledger)
    there = view.through(other)
    promise = "FAILED from a status answer moves no job with a billed call to it"
    await view.arm("a")
    await there.refused(promise, Fail("no"), "armed")
    await view.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
    await there.refused(promise, Fail("no"), "uncertain")
    await view.granted("decided on", view.claim("b", accept="a"), "claimed")
    await there.refused(promise, Fail("no"), "claimed")
    await view.granted("and given up", Release("b"), "uncertain")
    await view.granted("a late answer is stored", Store(view.job, "a", READABLE), "stored")
    await there.refused(promise, Fail("no"), "stored")


ATTEMPTS: tuple[Check, ...] = (
    _remembers,
    _acknowledged,
    _look_changes_nothing,
    _one_claim_wins,
    _arming_is_compare_and_set,
    _armed_and_gone_is_uncertain,
    _renewals_change_the_lease,
    _release_frees,
    _uncertain_job_needs_a_decision,
    _decision_is_void,
    _failed_is_final,
    _failed_settles_no_open_question,
)

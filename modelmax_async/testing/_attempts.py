"""Promises about claims, leases and decisions: which client may make the billed call."""

from __future__ import annotations

import asyncio

from modelmax_async.ledger import (
    Arm,
    Claim,
    Fail,
    Look,
    Release,
    Remember,
    Renew,
    Store,
    Uncertain,
)
from modelmax_async.testing._view import LONG, READABLE, Check, View, check


async def _remembers(view: View, there: View) -> None:
    for move in (Arm("a", LONG), Look(view.job), Release("a")):
        entry, _ = await view.take(move)
        check(entry is None, "an unknown job has no entry")
    remember = Remember(view.job)
    await view.granted("a new job is known", remember, "known")
    again = await there.refused("a job is remembered once, for every handle", remember, "known")
    check(view.job == again.job, "a job is returned equal")


async def _acknowledged(view: View, there: View) -> None:
    claimed = await view.granted("claimed", view.claim("a"), "claimed")
    await view.granted("released", Release("a"), "known")
    listed = await there.listed("known")
    seen = await there.look("a released job is known to every handle", "known")
    reported = {entry is not None and entry.acknowledged for entry in (claimed, listed, seen)}
    check(reported == {False}, "a job that the server did not acknowledge is reported as such")
    await view.granted("an acknowledgement is recorded", Remember(view.job), "known")
    seen = await there.look("every handle sees the acknowledgement", "known")
    check(seen.acknowledged, "a job that the server acknowledged is reported as such")
    fresh = view.another_job()
    acknowledging = Claim(fresh.job, "owner", "a", LONG, acknowledged=True)
    entry = await fresh.granted("a claim can acknowledge a job", acknowledging, "claimed")
    check(entry.acknowledged, "a claim can acknowledge a job")


async def _look_changes_nothing(view: View, there: View) -> None:
    claimed = await view.granted("claimed", view.claim("a"), "claimed")
    seen = await there.look("a look changes nothing", "claimed")
    check(claimed == seen, "a look changes nothing, and every field is returned equal")
    armed = await view.granted("armed", Arm("a", LONG), "armed")
    for handle in (view, there, view):
        seen = await handle.look("a look changes nothing", "armed")
        check(armed == seen, "a look changes nothing, and every field is returned equal")


async def _one_claim_wins(view: View, there: View) -> None:
    views = enumerate([view, there] * 20)
    claims = (each.take(each.claim(f"attempt {n}")) for n, each in views)
    taken = await asyncio.gather(*claims)
    winners = [granted for _, granted in taken]
    check(winners.count(True) == 1, "of many claims at the same time, one is granted")


async def _arming_is_compare_and_set(view: View, there: View) -> None:
    slow = await view.granted("claimed", view.claim("slow", lease=0.0), "claimed")
    await there.refused("the wall clock alone ends no claim", there.claim("x"), "claimed")
    taking = there.claim("next", takeover=slow.lease_until)
    await there.granted("a claim that is not renewed can be taken over", taking, "claimed")
    for move in (Arm("slow", LONG), Renew("slow", LONG), Release("slow")):
        await view.refused("an owner whose claim was taken over is refused", move, "claimed")
    await there.granted("the new owner can arm its attempt", Arm("next", LONG), "armed")
    await there.refused("arming twice is refused", Arm("next", LONG), "armed")
    await view.refused("an armed job is never claimed", view.claim("x"), "armed")


async def _armed_and_gone_is_uncertain(view: View, there: View) -> None:
    gone = await view.arm("gone", lease=0.0)
    listed = await there.listed("uncertain")
    check(listed is not None, "entries() lists an armed job as uncertain after its lease")
    await there.refused(
        "the wall clock alone makes no call uncertain", there.claim("x"), "armed"
    )
    until = gone.lease_until
    stale = there.claim("x", takeover=until - 1, accept="gone")
    await there.refused("a takeover names the lease that it has watched", stale, "armed")
    taking = there.claim("x", takeover=until)
    entry = await there.refused("a call whose client is gone is uncertain", taking, "uncertain")
    check(entry.phase == "sent", "a call without a response has the phase sent")
    await view.look("an uncertain job stays uncertain", "uncertain")
    wrong = there.claim("x", accept="another attempt")
    await there.refused("a decision names its attempt", wrong, "uncertain")
    await view.refused("an uncertain lease cannot be renewed", Renew("gone", LONG), "uncertain")
    late = Store(view.job, "gone", READABLE)
    await view.granted("a late result is still stored", late, "stored")


async def _renewals_change_the_lease(view: View, there: View) -> None:
    ends = [(await view.granted("claimed", view.claim("a"), "claimed")).lease_until]
    ends.append((await view.granted("armed", Arm("a", LONG), "armed")).lease_until)
    for lease in (LONG, LONG, 0.0, LONG):
        renewing = Renew("a", lease)
        renewed = await view.granted("an armed attempt can be renewed", renewing, "armed")
        ends.append(renewed.lease_until)
    check(
        len(set(ends)) == len(ends) and sorted(ends) == ends,
        "every renewal makes the lease end later, even if the clock steps back",
    )
    for until in ends[:-1]:
        late = there.claim("x", accept="a", takeover=until)
        await there.refused("a lease that was renewed is not taken over", late, "armed")


async def _release_makes_known(view: View, there: View) -> None:
    await view.arm("a")
    await view.refused("the release of another attempt is refused", Release("b"), "armed")
    await view.granted("released", Release("a"), "known")
    await view.refused("releasing twice is refused", Release("a"), "known")
    await there.granted("a released job can be claimed", there.claim("b"), "claimed")
    late = view.another_job()
    gone = await late.arm("a", lease=0.0)
    taking = late.claim("x", takeover=gone.lease_until)
    await late.refused("a call whose client is gone is uncertain", taking, "uncertain")
    proof = "a proof that nothing was billed counts even for a client declared gone"
    await late.granted(proof, Release("a"), "known")


async def _uncertain_job_needs_a_decision(view: View, there: View) -> None:
    await view.arm("a")
    uncertain = Uncertain("a", "answered", "it broke off")
    entry = await view.granted("uncertain", uncertain, "uncertain")
    check(
        (entry.phase, entry.cause) == ("answered", "it broke off"),
        "the phase and cause are kept",
    )
    await view.refused("an uncertain job cannot be claimed", view.claim("b"), "uncertain")
    told = await there.look("uncertain for every handle", "uncertain")
    check(entry == told, "an uncertain job and its cause come back equal")
    await there.arm("b", accept="a")
    unbilled = "an unbilled call leaves the earlier outcome"
    entry = await there.granted(unbilled, Release("b"), "uncertain")
    check(entry.attempt == "a", unbilled)
    for move in (Release("b"), Fail("no", "b")):
        await view.refused("a proof counts once only", move, "uncertain")
    await view.take(Release("a"))
    await view.look("a decision voids proofs of earlier attempts", "uncertain")


async def _decision_is_void(view: View, there: View) -> None:
    void = "a decision is void once the job has changed"
    await view.arm("a")
    await view.refused("a call in flight is never raced", view.claim("x", accept="a"), "armed")
    await view.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
    await there.arm("b", accept="a")
    await view.refused(void, view.claim("x", accept="a"), "armed")
    await there.granted("uncertain again", Uncertain("b", "sent", "it broke off"), "uncertain")
    await view.refused(void, view.claim("x", accept="a"), "uncertain")
    await view.granted("a new decision counts", view.claim("c", accept="b"), "claimed")
    entry = await view.granted("a decided claim can be released", Release("c"), "uncertain")
    check(entry.attempt == "b", "a released claim leaves the earlier outcome")


async def _failed_is_final(view: View, there: View) -> None:
    await view.take(Remember(view.job))
    entry = await view.granted("failed", Fail("blocked é"), "failed")
    check(entry.error == "blocked é", "a failed entry has the server's text")
    entry = await there.refused("a failed job is final", there.claim("a"), "failed")
    check(entry.error == "blocked é", "a failed entry has the server's text for every handle")


async def _failed_settles_no_open_question(view: View, there: View) -> None:
    promise = "FAILED from a status call does not change a job with a billed call"
    await view.arm("a")
    await there.refused(promise, Fail("no"), "armed")
    await view.granted("uncertain", Uncertain("a", "sent", "it broke off"), "uncertain")
    await there.refused(promise, Fail("no"), "uncertain")
    await view.granted("a decision allows a claim", view.claim("b", accept="a"), "claimed")
    await there.refused(promise, Fail("no"), "claimed")
    await view.granted("a decided claim can be released", Release("b"), "uncertain")
    await view.granted("a late result is stored", Store(view.job, "a", READABLE), "stored")
    await there.refused(promise, Fail("no"), "stored")


ATTEMPTS: tuple[Check, ...] = (
    _remembers,
    _acknowledged,
    _look_changes_nothing,
    _one_claim_wins,
    _arming_is_compare_and_set,
    _armed_and_gone_is_uncertain,
    _renewals_change_the_lease,
    _release_makes_known,
    _uncertain_job_needs_a_decision,
    _decision_is_void,
    _failed_is_final,
    _failed_settles_no_open_question,
)

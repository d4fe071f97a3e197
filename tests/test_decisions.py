"""Decisions: what consent to a second charge is about, and which attempts it may share."""

from __future__ import annotations

import asyncio

import pytest
from support import in_virtual_time, key_and_job

from modelmax_async import MemoryLedger
from modelmax_async._api.paths import make_job
from modelmax_async._billing.decisions import Decision, Flight, decide
from modelmax_async._billing.outcomes import Held, Settled
from modelmax_async.ledger import (
    Arm,
    Claim,
    Fail,
    Look,
    Move,
    Release,
    Remember,
    Step,
    Uncertain,
)

pytestmark = [pytest.mark.anyio, in_virtual_time]


def yes() -> bool:
    return True


A1 = Decision("a1", None, yes)
A1_HELD = Decision("a1", 10.0, yes)
A2 = Decision("a2", None, yes)


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], None),
        ([Release("a1")], None),
        ([Fail("no", "a1")], None),
        ([Arm("a1", 10.0), Uncertain("a1", "sent", "it broke off")], "a1"),
    ],
)
async def test_decision_needs_an_attempt_whose_outcome_is_uncertain(
    moves: list[Move], expected: str | None
) -> None:
    store = MemoryLedger()
    key, job = key_and_job("reef")

    await store.apply(key, Claim(job, "me", "a1", 10.0) if moves else Remember(job))
    for move in moves:
        await store.apply(key, move)
    seen = await store.apply(key, Look(job))

    assert isinstance(seen, Step)
    assert (expected and Decision(expected, None, yes)) == decide(seen.entry, yes)


async def test_decision_about_a_call_under_way_is_bound_to_its_lease() -> None:
    store = MemoryLedger()
    key, job = key_and_job("reef")

    claimed = await store.apply(key, Claim(job, "me", "a1", 10.0))

    assert isinstance(claimed, Step)
    assert Decision("a1", claimed.entry.lease_until, yes) == decide(claimed.entry, yes)


@pytest.mark.parametrize(
    ("model", "decision", "resting_on", "expected"),
    [
        ("veo-3", None, [], True),
        ("veo-3", None, [A1], True),
        ("veo-3", A1, [A1_HELD], True),
        ("veo-3", A1, [A2], False),
        ("veo-3", A1, [], False),
        ("veo-2", None, [], False),
        ("veo-2", A1, [A1], False),
    ],
)
async def test_attempt_is_shared_by_callers_with_the_same_decision(
    model: str, decision: Decision | None, resting_on: list[Decision], *, expected: bool
) -> None:
    async def attempt() -> Settled:
        return Held()

    task = asyncio.create_task(attempt())
    flight = Flight(make_job("veo-3", "reef"), task, resting_on)
    await task

    assert expected is flight.serves(make_job(model, "reef"), decision)

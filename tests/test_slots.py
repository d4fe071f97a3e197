"""Slots bound the requests of a client that are in flight at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from modelmax_async._http.slots import Slots

pytestmark = pytest.mark.anyio


async def test_request_waits_until_a_slot_is_free() -> None:
    slots = Slots(1)
    order: list[str] = []

    async def use(name: str) -> None:
        async with slots.slot():
            order.append(f"{name} {slots!r}")
            await asyncio.sleep(0)

    await asyncio.gather(use("first"), use("second"))

    state = "<Slots: 1 of 1 in flight>"
    assert [f"first {state}", f"second {state}"] == order
    assert 0 == slots.in_flight


@pytest.mark.parametrize(("max_in_flight", "most"), [(1, 1), (2, 1), (5, 2), (8, 4)])
async def test_long_slots_are_half_of_all_and_at_least_one(
    max_in_flight: int, most: int
) -> None:
    slots = Slots(max_in_flight)

    async with AsyncExitStack() as stack:
        for _ in range(most):
            await stack.enter_async_context(slots.long_slot())
        another = asyncio.create_task(stack.enter_async_context(slots.long_slot()))
        await asyncio.sleep(0)
        waits = not another.done()
        async with slots.slot():  # calls still have one
            assert waits
        another.cancel()

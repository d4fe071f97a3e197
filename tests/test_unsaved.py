"""A paid result is stored in the end, and its lease is renewed until then."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
from ledgers import Armed, Handle, forever, hang, on
from support import in_virtual_time

from modelmax_async import LedgerEntry, MemoryLedger
from modelmax_async._api.paths import make_job
from modelmax_async._billing.leases import BEAT, Leases
from modelmax_async._billing.unsaved import Unsaved
from modelmax_async._models import LedgerState
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.tasks import Tasks
from modelmax_async.events import Event, LedgerFailed
from modelmax_async.ledger import Key, Ledger, Move, Step, Store, SubmitKey, SubmitStep

pytestmark = [pytest.mark.anyio, in_virtual_time]
JOB, KEY = make_job("veo-3", "reef"), Key("http://127.0.0.1:80", "reef")
ANSWER = Store(JOB, "a1", b'{"status": "COMPLETED", "data": [{"url": "/v"}]}')


def unsaved_of(
    ledger: Ledger, seen: list[Event] | None = None, tasks: Tasks | None = None
) -> tuple[Unsaved, Leases]:
    tasks = tasks or Tasks()
    leases = Leases(ledger, tasks)
    hooks = Hooks([] if seen is None else [seen.append])
    return Unsaved(ledger, leases, tasks, hooks), leases


async def beats(number: float) -> None:
    await asyncio.sleep(number * BEAT)


async def test_answer_that_the_ledger_refused_is_tried_again_at_every_beat() -> None:
    store = await Armed.make()
    tries = 0

    async def fail_twice(_: Move) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("the disk is full")

    seen: list[Event] = []
    unsaved, leases = unsaved_of(Handle(store, before=on(Store, fail_twice)), seen)
    leases.hold(KEY, "a1")
    done = await unsaved.save(KEY, ANSWER)
    kept = unsaved.body(KEY)
    await beats(2.5)

    cause = "a paid result is not stored yet: the disk is full"
    assert (None, ANSWER.body, None) == (done, kept, unsaved.body(KEY))
    assert [LedgerFailed(JOB, cause)] == seen
    assert 3 == tries
    assert "stored" == store._entries[KEY].state


async def test_attempt_is_held_until_its_answer_is_stored_and_no_longer() -> None:
    store = await Armed.make()
    broken = True

    async def refuse(_: Move) -> None:
        if broken:
            raise OSError("the disk is full")

    unsaved, leases = unsaved_of(Handle(store, before=on(Store, refuse)))
    leases.hold(KEY, "a1")
    await unsaved.save(KEY, ANSWER)
    await beats(3.5)
    broken = False
    await beats(10)

    assert 4 == len(store.renewed)
    assert "stored" == store._entries[KEY].state


async def test_answer_of_an_earlier_attempt_lets_no_later_one_go() -> None:
    store = await Armed.make()
    unsaved, leases = unsaved_of(store)

    leases.hold(KEY, "a2")
    await unsaved.save(KEY, ANSWER)
    await beats(1.5)

    assert ["Store", "Renew"] == store.kinds


async def test_store_that_ends_late_leaves_a_later_answer_waiting() -> None:
    store, gate = await Armed.make(), asyncio.Event()
    later = Store(JOB, "a1", b"later")

    async def hold_the_first(move: Move) -> None:
        if move is ANSWER:
            await gate.wait()
        else:
            raise OSError("the disk is full")

    unsaved, _ = unsaved_of(Handle(store, before=on(Store, hold_the_first)))
    first = asyncio.create_task(unsaved.save(KEY, ANSWER))
    await beats(0.5)
    await unsaved.save(KEY, later)
    gate.set()
    done = await first

    assert done is not None
    assert later.body == unsaved.body(KEY)


async def test_ledger_that_hangs_at_an_answer_is_said_not_to_have_answered() -> None:
    seen: list[Event] = []
    unsaved, _ = unsaved_of(Handle(MemoryLedger(), before=on(Store, hang)), seen)

    done = await unsaved.save(KEY, ANSWER)

    cause = "a paid result is not stored yet: the ledger has not answered for 15 seconds"
    assert done is None
    assert [LedgerFailed(JOB, cause)] == seen


async def test_store_that_is_cancelled_keeps_the_answer_for_the_next_try() -> None:
    store = await Armed.make()
    waits = True

    async def wait_once(_: Move) -> None:
        nonlocal waits
        if waits:
            waits = False
            await forever()

    seen: list[Event] = []
    tasks = Tasks()
    unsaved, leases = unsaved_of(Handle(store, before=on(Store, wait_once)), seen, tasks)
    leases.hold(KEY, "a1")
    saving = asyncio.create_task(unsaved.save(KEY, ANSWER))
    await asyncio.sleep(1)
    unsaved._stores._running[KEY][0].cancel()
    done = await saving
    kept = unsaved.body(KEY)
    await beats(1.5)

    assert (None, ANSWER.body, None) == (done, kept, unsaved.body(KEY))
    assert [LedgerFailed] == [type(event) for event in seen]
    assert "stored" == store._entries[KEY].state


async def test_ledger_that_says_nothing_of_an_answer_has_not_kept_it() -> None:
    class Forgetful:
        async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
            return None

        async def entries(
            self, origin: str, states: Collection[LedgerState]
        ) -> list[LedgerEntry]:
            return []

        async def aclose(self) -> None:
            """Nothing is open."""

    seen: list[Event] = []
    unsaved, _ = unsaved_of(Forgetful(), seen)

    done = await unsaved.save(KEY, ANSWER)

    assert done is None
    assert ANSWER.body == unsaved.body(KEY)
    assert "did not keep" in str(seen)


async def test_close_stores_what_a_hanging_try_has_not() -> None:
    store = await Armed.make()
    waits = True

    async def wait_once(_: Move) -> None:
        nonlocal waits
        if waits:
            waits = False
            await forever()

    seen: list[Event] = []
    unsaved, _ = unsaved_of(Handle(store, before=on(Store, wait_once)), seen)
    saving = asyncio.create_task(unsaved.save(KEY, ANSWER))
    await asyncio.sleep(1)
    await unsaved.aclose(5.0)

    assert "stored" == store._entries[KEY].state
    assert [] == seen
    saving.cancel()


async def test_retries_end_once_everything_is_stored() -> None:
    store = await Armed.make()
    tasks = Tasks()
    unsaved, _ = unsaved_of(store, tasks=tasks)

    await unsaved.save(KEY, ANSWER)
    await beats(1.5)

    assert set() == tasks.others()

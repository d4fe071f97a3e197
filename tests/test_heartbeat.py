"""Leases are renewed while a call is under way, and a paid answer is stored in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
from ledgers import Handle, Seen, forever, hang, on
from support import in_virtual_time

from modelmax_async import LedgerEntry, MemoryLedger
from modelmax_async._api.paths import make_job
from modelmax_async._billing.heartbeat import BEAT, Heartbeat
from modelmax_async._models import LedgerState
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.tasks import Tasks
from modelmax_async.events import Event, LedgerFailed
from modelmax_async.ledger import Arm, Claim, Key, Ledger, Move, Renew, Step, Store

pytestmark = [pytest.mark.anyio, in_virtual_time]
JOB, OTHER = make_job("veo-3", "reef"), make_job("veo-3", "wreck")
KEY, OTHER_KEY = Key("http://127.0.0.1:80", "reef"), Key("http://127.0.0.1:80", "wreck")
ANSWER = Store(JOB, "a1", b'{"status": "COMPLETED", "data": [{"url": "/v"}]}')


class Armed(Seen):
    """Holds both jobs, armed, and keeps what it is asked from then on."""

    @classmethod
    async def make(cls) -> Armed:
        made = cls()
        for job, key in ((JOB, KEY), (OTHER, OTHER_KEY)):
            await made.apply(key, Claim(job, "me", "a1", 10.0))
            await made.apply(key, Arm("a1", 10.0))
        made.applied.clear()
        return made

    @property
    def renewed(self) -> list[str]:
        return [key.request_id for key, move in self.applied if isinstance(move, Renew)]


def heartbeat_of(
    ledger: Ledger, seen: list[Event] | None = None, tasks: Tasks | None = None
) -> Heartbeat:
    hooks = Hooks([] if seen is None else [seen.append])
    return Heartbeat(ledger, tasks or Tasks(), hooks)


async def beats(number: float) -> None:
    await asyncio.sleep(number * BEAT)


async def test_lease_is_renewed_at_every_beat_until_it_is_let_go() -> None:
    store = await Armed.make()
    beat = heartbeat_of(store)

    beat.hold(KEY, "a1")
    beat.hold(OTHER_KEY, "a1")
    await beats(2.5)
    beat.let_go(KEY)
    await beats(2)

    assert ["reef", "wreck"] * 2 + ["wreck"] * 2 == store.renewed


async def test_call_that_begins_after_all_others_ended_is_renewed_too() -> None:
    store = await Armed.make()
    beat = heartbeat_of(store)

    beat.hold(KEY, "a1")
    beat.let_go(KEY)
    await beats(10)
    beat.hold(OTHER_KEY, "a1")
    await beats(2.5)

    assert ["wreck"] * 2 == store.renewed


async def test_call_that_begins_while_another_is_renewed_doubles_no_renewal() -> None:
    store = await Armed.make()
    beat = heartbeat_of(store)

    beat.hold(KEY, "a1")
    await beats(0.5)
    beat.hold(OTHER_KEY, "a1")
    await beats(2)

    assert ["reef", "wreck"] * 2 == store.renewed


async def test_nothing_is_renewed_after_the_close() -> None:
    store = await Armed.make()
    beat = heartbeat_of(store)

    beat.hold(KEY, "a1")
    await beats(1.5)
    await beat.aclose(1.0)
    await beats(10)

    assert ["reef"] == store.renewed


async def test_answer_that_the_ledger_refused_is_tried_again_at_every_beat() -> None:
    store = await Armed.make()
    tries = 0

    async def fail_twice(_: Move) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("the disk is full")

    seen: list[Event] = []
    beat = heartbeat_of(Handle(store, before=on(Store, fail_twice)), seen)
    beat.hold(KEY, "a1")
    done = await beat.save(KEY, ANSWER)
    kept = beat.unsaved(KEY)
    beat.let_go(KEY)
    await beats(2.5)

    cause = "a paid answer is not stored yet: the disk is full"
    assert (None, ANSWER.body, None) == (done, kept, beat.unsaved(KEY))
    assert [LedgerFailed(JOB, cause)] == seen
    assert 3 == tries
    assert "stored" == store._entries[KEY].state


async def test_attempt_is_held_until_its_answer_is_stored_and_no_longer() -> None:
    store = await Armed.make()
    broken = True

    async def refuse(_: Move) -> None:
        if broken:
            raise OSError("the disk is full")

    beat = heartbeat_of(Handle(store, before=on(Store, refuse)))
    beat.hold(KEY, "a1")
    await beat.save(KEY, ANSWER)
    beat.let_go(KEY)
    await beats(3.5)
    broken = False
    await beats(10)

    assert 4 == len(store.renewed)
    assert "stored" == store._entries[KEY].state


async def test_answer_of_an_earlier_attempt_lets_no_later_one_go() -> None:
    store = await Armed.make()
    beat = heartbeat_of(store)

    beat.hold(KEY, "a2")
    await beat.save(KEY, ANSWER)
    await beats(1.5)

    assert ["Store", "Renew"] == store.kinds


async def test_ledger_that_hangs_at_an_answer_is_said_not_to_have_answered() -> None:
    seen: list[Event] = []
    beat = heartbeat_of(Handle(MemoryLedger(), before=on(Store, hang)), seen)

    done = await beat.save(KEY, ANSWER)

    cause = "a paid answer is not stored yet: it has not answered for 15 seconds"
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
    beat = heartbeat_of(Handle(store, before=on(Store, wait_once)), seen, tasks)
    beat.hold(KEY, "a1")
    saving = asyncio.create_task(beat.save(KEY, ANSWER))
    await asyncio.sleep(1)
    beat._stores._running[KEY][0].cancel()
    done = await saving
    kept = beat.unsaved(KEY)
    await beats(1.5)

    assert (None, ANSWER.body, None) == (done, kept, beat.unsaved(KEY))
    assert [LedgerFailed] == [type(event) for event in seen]
    assert "stored" == store._entries[KEY].state


async def test_ledger_that_says_nothing_of_an_answer_has_not_kept_it() -> None:
    class Forgetful:
        async def apply(self, key: Key, move: Move) -> Step | None:
            return None

        async def entries(
            self, origin: str, states: Collection[LedgerState]
        ) -> list[LedgerEntry]:
            return []

        async def aclose(self) -> None:
            """Nothing is open."""

    seen: list[Event] = []
    beat = heartbeat_of(Forgetful(), seen)

    done = await beat.save(KEY, ANSWER)

    assert done is None
    assert ANSWER.body == beat.unsaved(KEY)
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
    beat = heartbeat_of(Handle(store, before=on(Store, wait_once)), seen)
    saving = asyncio.create_task(beat.save(KEY, ANSWER))
    await asyncio.sleep(1)
    await beat.aclose(5.0)

    assert "stored" == store._entries[KEY].state
    assert [] == seen
    saving.cancel()

"""`usage`: what the paid results of a ledger add up to, and what is missing from the sum."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from ledgers import Handle, Losing, on, refuse
from support import ORIGIN, in_process, in_virtual_time, left_uncertain, on_socket, paid_body

from modelmax_async import (
    InvalidResponseError,
    Ledger,
    LedgerEntry,
    LedgerError,
    LedgerUsage,
    MemoryLedger,
    ModelUsage,
    PostgresLedger,
    SQLiteLedger,
    VideoParameters,
)
from modelmax_async._api import endpoints
from modelmax_async._api.paths import make_job
from modelmax_async._client import usage as module
from modelmax_async._client.usage import charge_of
from modelmax_async._models import LedgerState
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.ledger import Key, Look, Move, Prune, Store

pytestmark = pytest.mark.anyio
SHORT = JobScript(usage={"video_seconds": 2.5})


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, schema: str
) -> AsyncIterator[Ledger]:
    made: Ledger
    match request.param:
        case "memory":
            made = MemoryLedger()
        case "sqlite":
            made = SQLiteLedger(tmp_path / "runs.db")
        case _:
            made = PostgresLedger(request.getfixturevalue("dsn"), schema=schema)
    yield made
    await made.aclose()


async def test_usage_adds_up_the_paid_results_by_model(
    emulator: Emulator, url: str, ledger: Ledger
) -> None:
    three = VideoParameters(sample_count=3)
    async with on_socket(url, ledger=ledger) as client:
        await client.generate("a reef")
        await client.generate("a reef", parameters=three)
        emulator.script(SHORT)
        await client.generate("a reef", model="veo-3-fast")
        await client.submit("still running")
        calls = len(emulator.requests)
        usage = await client.usage()

    assert calls == len(emulator.requests)
    assert (
        LedgerUsage(
            results=3,
            videos=5,
            seconds=18.5,
            by_model={
                "veo-3": ModelUsage(results=2, videos=4, seconds=16.0),
                "veo-3-fast": ModelUsage(results=1, videos=1, seconds=2.5),
            },
        )
        == usage
    )


async def test_usage_says_what_it_does_not_contain(
    emulator: Emulator, url: str, ledger: Ledger, tmp_path: Path
) -> None:
    async with on_socket(url, ledger=ledger) as client:
        await client.download(await client.generate("dropped"), tmp_path)
        await client.prune(timedelta(0))
        emulator.script(JobScript(usage={}))
        await client.generate("without seconds")
        emulator.fault("result", Fault.garble())
        with pytest.raises(InvalidResponseError):
            await client.generate("unreadable")
        emulator.fault("result", Fault.drop_after(), times=2)
        jobs = [await client.submit("lost") for _ in range(2)]
        await client.gather_results(jobs, return_exceptions=True)
        await client.forget(jobs[0])
        await client.forget(await client.submit("given up before it was billed"))
        usage = await client.usage()

    assert (
        LedgerUsage(
            results=1,
            videos=1,
            by_model={"veo-3": ModelUsage(results=1, videos=1)},
            unmetered=1,
            unreadable=1,
            dropped=1,
            uncertain=2,
        )
        == usage
    )


@in_virtual_time
async def test_usage_of_an_empty_ledger_is_zero(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        usage = await client.usage()

    assert LedgerUsage() == usage
    assert "0.0" == repr(usage.seconds)


@in_virtual_time
async def test_call_in_progress_is_uncertain(emulator: Emulator) -> None:
    emulator.fault("result", Fault.hang(20))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.generate("a reef"))
        while not emulator.billed_total:
            await asyncio.sleep(0.1)
        during = await client.usage()
        await waiting
        after = await client.usage()

    assert LedgerUsage(uncertain=1) == during
    assert (1, 8.0, 0) == (after.results, after.seconds, after.uncertain)


@in_virtual_time
async def test_result_that_was_paid_for_twice_counts_once(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)

    async with in_process(emulator, ledger=store) as client:
        await client.result(request_id, accept_second_charge=True)
        usage = await client.usage()

    assert 2 == emulator.billed_total
    assert (1, 8.0, 0) == (usage.results, usage.seconds, usage.uncertain)


@in_virtual_time
async def test_result_that_is_pruned_meanwhile_counts_as_dropped(
    emulator: Emulator, tmp_path: Path
) -> None:
    store = MemoryLedger()
    pruned: list[str] = []

    async def prune(move: Move) -> None:
        assert isinstance(move, Look)
        pruned.append(move.job.request_id)
        await store.apply(Key(ORIGIN, move.job.request_id), Prune(1e10))

    slow = Handle(store, before=on(Look, prune))
    async with in_process(emulator, ledger=store) as client:
        result = await client.generate("a reef")
        await client.download(result, tmp_path)
    async with in_process(emulator, ledger=slow) as client:
        usage = await client.usage()

    assert [result.request_id] == pruned
    assert LedgerUsage(dropped=1) == usage


async def test_long_ledger_is_read_in_parts_and_parsed_in_a_thread(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    looks = most = 0

    def parse_result(body: bytes, job: Any) -> Any:
        threads.add(threading.get_ident())
        return endpoints.parse_result(body, job)

    async def begin(_: Move) -> None:
        nonlocal looks, most
        looks += 1
        most = max(most, looks)
        await asyncio.sleep(0)

    async def end(_: Move) -> None:
        nonlocal looks
        looks -= 1

    monkeypatch.setattr(module, parse_result.__name__, parse_result)
    store = MemoryLedger()
    for number in range(1000):
        name = f"req-{number}"
        await store.apply(
            Key(ORIGIN, name), Store(make_job("veo-3", name), "a1", paid_body(name))
        )
    counted = Handle(store, before=on(Look, begin), after=on(Look, end))
    async with in_process(emulator, ledger=counted) as client:
        usage = await client.usage()

    assert (1000, 1000, 1000) == (usage.results, usage.videos, usage.unmetered)
    assert module._CHUNK == most
    assert threading.get_ident() not in threads


@in_virtual_time
async def test_entry_that_the_ledger_has_lost_is_not_counted(emulator: Emulator) -> None:
    async with in_process(emulator, ledger=Losing(Look)) as client:
        store = client._engine.records.ledger
        body = paid_body("reef")
        await store.apply(Key(ORIGIN, "reef"), Store(make_job("veo-3", "reef"), "a1", body))
        usage = await client.usage()

    assert LedgerUsage() == usage


@in_virtual_time
async def test_ledger_that_fails_is_an_error(emulator: Emulator) -> None:
    flaky = Handle(MemoryLedger(), before=on(Look, refuse))

    async with in_process(emulator, ledger=flaky) as client:
        flaky.before = None
        await client.generate("a reef")
        flaky.before = on(Look, refuse)
        with pytest.raises(LedgerError, match="disk on fire"):
            await client.usage()


@pytest.mark.parametrize(
    ("state", "resting", "charge"),
    [
        ("known", None, "none"),
        ("claimed", "known", "none"),
        ("claimed", "uncertain", "uncertain"),
        ("claimed", "stored", "paid"),
        ("claimed", "delivered", "dropped"),
        ("armed", "known", "uncertain"),
        ("armed", "stored", "paid"),
        ("armed", "delivered", "dropped"),
        ("stored", None, "paid"),
        ("failed", None, "none"),
        ("abandoned", None, "none"),
        ("delivered", None, "dropped"),
    ],
)
def test_attempt_in_progress_leaves_what_was_paid_before(
    state: LedgerState, resting: LedgerState | None, charge: str
) -> None:
    entry = LedgerEntry(job=make_job("veo-3", "reef"), state=state, since=0, resting=resting)

    assert charge == charge_of(entry)


def test_given_up_job_is_uncertain_if_its_call_was_sent() -> None:
    entry = LedgerEntry(job=make_job("veo-3", "reef"), state="abandoned", since=0)

    assert "uncertain" == charge_of(attrs.evolve(entry, phase="sent"))

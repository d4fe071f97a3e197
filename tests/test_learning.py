"""What a client learns from its polls, keeps in its ledger, and tells people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from support import ORIGIN, in_process, in_virtual_time

from modelmax_async import (
    AdaptivePolicy,
    AsyncQueueClient,
    Expected,
    Job,
    Ledger,
    LedgerError,
    MemoryLedger,
    PollPolicy,
    SQLiteLedger,
)
from modelmax_async._polling.learnt import VERSION, Learnt
from modelmax_async._polling.observation import Basis
from modelmax_async._runtime import clock
from modelmax_async.emulator import Emulator, JobScript
from modelmax_async.ledger import KeepsDurations

pytestmark = [pytest.mark.anyio, in_virtual_time]
FORTY = JobScript(run_seconds=40)


@pytest.fixture(autouse=True)
def _wall_clock_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the wall clock run with the virtual time of the event loop."""

    def wall() -> float:
        try:
            return 1e9 + asyncio.get_running_loop().time()
        except RuntimeError:  # in the thread of a ledger
            return 1e9

    monkeypatch.setattr(clock, "wall", wall)


async def run(client: AsyncQueueClient, emulator: Emulator, jobs: int) -> list[Job]:
    """Submit jobs of forty seconds, and wait for them."""
    emulator.script(*[FORTY] * jobs)
    submitted = [await client.submit("a reef") for _ in range(jobs)]
    await client.gather_results(submitted)
    return submitted


async def record_of(ledger: KeepsDurations, model: str = "veo-3") -> Learnt:
    found = await ledger.load_durations(ORIGIN, VERSION)
    return Learnt.from_bytes(found[model])


async def test_submit_time_travels_with_the_job(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        await asyncio.sleep(7)
        job = await client.submit("a reef")
        pending = await client.pending()

    assert 1e9 + 7 == job.submitted_at
    assert [job] == pending
    assert job == Job.from_dict(job.to_dict())


@pytest.mark.parametrize("policy", [AdaptivePolicy(), PollPolicy(jitter=0)])
async def test_whatever_the_policy_it_is_learnt_how_long_jobs_take(
    emulator: Emulator, policy: Any
) -> None:
    async with in_process(emulator, poll=policy) as client:
        await run(client, emulator, 10)
        job = await client.submit("a reef")
        await asyncio.sleep(10)
        found = client.expected(job)

    assert found is not None
    assert 30 == pytest.approx(found.median, abs=6)
    assert found.median < found.p90 < 50


async def test_nothing_is_expected_before_a_few_jobs_have_ended(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        await run(client, emulator, 2)
        job = await client.submit("a reef")
        before = client.expected(job)
        await run(client, emulator, 2)

        assert before is None
        assert isinstance(client.expected(job), Expected)


async def test_model_that_is_not_known_yet_has_no_expectation(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        (job, *_) = await run(client, emulator, 5)

        assert client.expected(attrs.evolve(job, model="veo-2")) is None


async def test_id_that_nobody_waits_for_has_no_expectation(emulator: Emulator) -> None:
    ids = [emulator.add_job(script=FORTY) for _ in range(10)]

    async with in_process(emulator) as client:
        await client.gather_results(ids)
        unknown = emulator.add_job(script=FORTY)
        before = client.expected(unknown)
        waiting = asyncio.create_task(client.wait_for(unknown))
        await asyncio.sleep(20)
        found = client.expected(unknown)
        await waiting

    assert before is None
    assert found is not None
    assert 20 == pytest.approx(found.median, abs=6)


async def test_what_is_expected_of_a_job_in_the_queue_counts_the_queue(
    emulator: Emulator,
) -> None:
    script = JobScript(queue_seconds=100, run_seconds=40)
    async with in_process(emulator) as client:
        await client.gather_results([emulator.add_job(script=script) for _ in range(20)])
        waiting = asyncio.create_task(client.wait_for(late := emulator.add_job(script=script)))
        await asyncio.sleep(60)
        queued = client.expected(late)
        await asyncio.sleep(60)
        started = client.expected(late)
        await waiting

    assert queued is not None
    assert started is not None
    assert 80 == pytest.approx(queued.median, abs=30)
    assert 25 == pytest.approx(started.median, abs=15)


async def test_what_is_expected_before_the_first_poll_allows_for_a_queue(
    emulator: Emulator,
) -> None:
    """Only jobs that are never seen in the queue are short; this one may be in the queue."""
    scripts = [JobScript(queue_seconds=100, run_seconds=15)] * 9 + [JobScript(run_seconds=15)]
    async with in_process(emulator) as client:
        for _ in range(5):
            emulator.script(*scripts)
            await client.gather_results([await client.submit("a reef") for _ in scripts])
        fresh = client.expected(await client.submit("a reef"))

    assert fresh is not None
    assert 115 == pytest.approx(fresh.median, abs=30)


async def test_nothing_is_expected_of_a_job_that_has_ended(emulator: Emulator) -> None:
    seen: list[Expected | None] = []

    async with in_process(emulator) as client:
        await run(client, emulator, 5)
        job = await client.submit("a reef")
        await client.wait_for(job, on_status=lambda _: seen.append(client.expected(job)))

    assert seen[-1] is None, "it is COMPLETED, and only its result is to be fetched"


async def test_unusable_argument_of_expected_is_refused(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="request id"):
            client.expected("")


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return MemoryLedger() if request.param == "memory" else SQLiteLedger(tmp_path / "runs.db")


async def expected_by_the_next_client(emulator: Emulator, ledger: Ledger) -> Expected | None:
    """Learn in one client, and return what the next one of the ledger expects of a job."""
    async with in_process(emulator, ledger=ledger) as client:
        await run(client, emulator, 5)
    async with in_process(emulator, ledger=ledger) as client:
        job = await client.submit("a reef")
        waiting = asyncio.create_task(client.wait_for(job))
        await asyncio.sleep(1)
        found = client.expected(job)
        await waiting
    return found


async def test_next_client_of_a_ledger_knows_what_was_learnt(emulator: Emulator) -> None:
    found = await expected_by_the_next_client(emulator, MemoryLedger())
    forgotten = await expected_by_the_next_client(emulator, Forgetful())

    assert found is not None
    assert 39 == pytest.approx(found.median, abs=6)
    assert forgotten is None


async def test_what_two_clients_learn_adds_up(emulator: Emulator) -> None:
    ledger = MemoryLedger()
    async with (
        in_process(emulator, ledger=ledger) as one,
        in_process(emulator, ledger=ledger) as other,
    ):
        await run(one, emulator, 5)
        await run(other, emulator, 7)
    kept = await record_of(ledger)

    assert 12 == pytest.approx(sum(kept.get(Basis.SUBMITTED).ends), rel=0.06)


async def test_it_is_written_after_every_few_ends_and_not_with_each(emulator: Emulator) -> None:
    ledger = Counting()
    async with in_process(emulator, ledger=ledger) as client:
        for _ in range(3):
            await run(client, emulator, 16)
        during = ledger.written
        await run(client, emulator, 1)

    assert 3 == during
    assert 4 == ledger.written, "the rest is written when the client closes"
    assert 1 == ledger.loaded


async def test_client_that_saw_no_end_writes_nothing(emulator: Emulator) -> None:
    ledger = Counting()
    async with in_process(emulator, ledger=ledger) as client:
        await client.submit("a reef")

    assert (0, 0) == (ledger.written, ledger.loaded)


class Forgetful:
    """A ledger of three methods, as a user may have written it."""

    def __init__(self) -> None:
        kept = MemoryLedger()
        self.apply, self.entries, self.aclose = kept.apply, kept.entries, kept.aclose


class Counting(MemoryLedger):
    """Counts the calls about durations."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = self.written = 0

    async def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        self.loaded += 1
        return await super().load_durations(origin, version)

    async def add_durations(
        self, origin: str, model: str, version: int, add: Callable[[bytes | None], bytes]
    ) -> bytes:
        self.written += 1
        return await super().add_durations(origin, model, version, add)


class Broken(MemoryLedger):
    """Fails with durations, or hangs, and with nothing else."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self._hangs = hangs

    async def _fail(self) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        raise LedgerError("disk full")

    async def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        await self._fail()
        return {}

    async def add_durations(
        self, origin: str, model: str, version: int, add: Callable[[bytes | None], bytes]
    ) -> bytes:
        await self._fail()
        return b""


class Recovering(MemoryLedger):
    """Cannot write durations for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True

    async def add_durations(
        self, origin: str, model: str, version: int, add: Callable[[bytes | None], bytes]
    ) -> bytes:
        if self.broken:
            raise LedgerError("database is locked")
        return await super().add_durations(origin, model, version, add)


async def test_what_a_ledger_could_not_write_is_written_later(emulator: Emulator) -> None:
    ledger = Recovering()
    async with in_process(emulator, ledger=ledger) as client:
        await run(client, emulator, 20)
        await run(client, emulator, 20)
        ledger.broken = False
        await run(client, emulator, 20)
    kept = await record_of(ledger)

    assert 45 < sum(kept.get(Basis.SUBMITTED).ends) <= 60


class Slow(MemoryLedger):
    """Takes its time to write durations."""

    async def add_durations(
        self, origin: str, model: str, version: int, add: Callable[[bytes | None], bytes]
    ) -> bytes:
        await asyncio.sleep(2)  # twice that is within the bound of closing
        return await super().add_durations(origin, model, version, add)


async def test_closing_writes_what_was_learnt_during_a_write(emulator: Emulator) -> None:
    ledger = Slow()
    async with in_process(emulator, ledger=ledger) as client:
        emulator.script(*[FORTY] * 16, *[JobScript(run_seconds=41)] * 4)
        await client.gather_results([await client.submit("a reef") for _ in range(20)])
    kept = await record_of(ledger)

    assert 17 < sum(kept.get(Basis.SUBMITTED).ends) <= 20


class Foreign(MemoryLedger):
    """Holds records that cannot be read."""

    def __init__(self, record: Any) -> None:
        super().__init__()
        self._record = record

    async def load_durations(self, origin: str, version: int) -> Mapping[str, Any]:  # type: ignore[override]  # it breaks the protocol
        return {"veo-3": self._record}


@pytest.mark.parametrize("hangs", [False, True])
async def test_ledger_that_cannot_keep_it_costs_a_line_in_the_log(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, *, hangs: bool
) -> None:
    async with in_process(emulator, ledger=Broken(hangs=hangs)) as client:
        await run(client, emulator, 20)
        job = await client.submit("a reef")
        found = client.expected(job)
        closing = asyncio.get_running_loop().time()
    closed = asyncio.get_running_loop().time()

    assert found is not None, "what was learnt is known all the same"
    assert "could not be loaded" in caplog.text
    reason = "it did not answer within 15 seconds" if hangs else "disk full"
    assert {logging.WARNING} == {r.levelno for r in caplog.records}
    assert all(r.message.endswith(f"the ledger: {reason}") for r in caplog.records)
    assert closed - closing <= 6


@pytest.mark.parametrize("record", [b"", b"[]", b"\xff", None, 5])
async def test_damaged_record_is_ignored_with_a_line_in_the_log(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, record: Any
) -> None:
    async with in_process(emulator, ledger=Foreign(record)) as client:
        await run(client, emulator, 3)

    assert "the durations of model veo-3 in the ledger are ignored" in caplog.text


async def test_damaged_record_is_replaced(emulator: Emulator) -> None:
    ledger = MemoryLedger()
    await ledger.add_durations(ORIGIN, "veo-3", VERSION, lambda _: b"rubbish")
    async with in_process(emulator, ledger=ledger) as client:
        await run(client, emulator, 3)
    kept = await record_of(ledger)

    assert 3 == pytest.approx(sum(kept.get(Basis.SUBMITTED).ends), rel=0.05)


async def test_first_usable_estimate_is_logged_once(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "modelmax_async")
    async with in_process(emulator) as client:
        for _ in range(3):
            await run(client, emulator, 10)
            await run(client, emulator, 1)
    lines = [r.message for r in caplog.records if "half of the jobs" in r.message]

    assert 1 == len(lines)
    assert lines[0].startswith("model veo-3: half of the jobs end within ")
    assert "after their submit, learnt from 3 jobs" in lines[0]


async def test_keeping_durations_is_an_optional_part_of_the_protocol() -> None:
    assert isinstance(MemoryLedger(), KeepsDurations)
    assert issubclass(SQLiteLedger, KeepsDurations)
    assert not isinstance(Forgetful(), KeepsDurations)


async def test_records_are_apart_by_origin_model_and_version(ledger: Any) -> None:
    keys = [("a", "m", 1), ("a", "n", 1), ("b", "m", 1), ("a", "m", 2)]
    for number, key in enumerate(keys):
        await ledger.add_durations(*key, lambda old, n=number: (old or b"") + b"%d" % n)
    again = await ledger.add_durations("a", "m", 1, lambda old: (old or b"") + b"!")
    found = await ledger.load_durations("a", 1)
    await ledger.aclose()

    assert b"0!" == again
    assert {"m": b"0!", "n": b"1"} == found

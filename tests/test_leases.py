"""Owners that are gone and owners that are slow: told apart by leases, never by wall clocks."""

from __future__ import annotations

import asyncio

import attrs
import httpx
import pytest
from ledgers import Armed, Handle, on
from support import in_process, in_virtual_time

from modelmax_async import LedgerEntry, LedgerError, MemoryLedger, Result, ResultUncertainError
from modelmax_async._api.paths import make_job
from modelmax_async._billing.leases import BEAT, Leases, LeaseWatch
from modelmax_async._runtime import clock
from modelmax_async._runtime.tasks import Tasks
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.ledger import Arm, Claim, Key, Move, Release, Renew

JOB = make_job("veo-3", "reef")
KEY = Key("http://127.0.0.1:80", "reef")
HELD = LedgerEntry(
    job=JOB, state="armed", since=0.0, attempt="a1", lease_until=100.0, lease=10.0
)


def watched(*looks: float, lease: float = 10.0, entry: LedgerEntry = HELD) -> LeaseWatch:
    watch = LeaseWatch(lease)
    for now in looks:
        watch.look(KEY, entry, now)
    return watch


def every_second(until: int) -> list[float]:
    return [float(second) for second in range(until + 1)]


@pytest.mark.parametrize(("seconds", "expected"), [(10, None), (11, 100.0)])
def test_lease_that_stands_still_for_longer_than_it_lasts_is_taken_over(
    seconds: int, expected: float | None
) -> None:
    assert expected == watched(*every_second(seconds)).gone(KEY)


def test_renewed_lease_starts_the_watch_anew() -> None:
    watch = watched(*every_second(9))
    renewed = attrs.evolve(HELD, lease_until=90.0)  # by a clock that was set back
    for second in range(9, 15):
        watch.look(KEY, renewed, float(second))

    assert watch.gone(KEY) is None


def test_time_in_which_this_client_stood_still_hardly_counts() -> None:
    assert watched(0.0, 1.0, 3600.0).gone(KEY) is None
    assert 100.0 == watched(0.0, 1.0, 3600.0, 3605.0).gone(KEY)


def test_lease_of_unknown_length_is_taken_for_one_of_ours() -> None:
    unknown = attrs.evolve(HELD, lease=0.0)

    assert watched(*every_second(5), lease=5.0, entry=unknown).gone(KEY) is None
    assert 100.0 == watched(*every_second(6), lease=5.0, entry=unknown).gone(KEY)


def test_lease_lasts_as_long_as_its_owner_says() -> None:
    longer = attrs.evolve(HELD, lease=20.0)

    assert watched(*every_second(20), entry=longer).gone(KEY) is None
    assert 100.0 == watched(*every_second(21), entry=longer).gone(KEY)


def test_job_that_nobody_holds_is_forgotten() -> None:
    watch = watched(*every_second(11))
    watch.forget(KEY)
    watch.forget(KEY)

    assert watch.gone(KEY) is None


def test_leases_that_nobody_asks_about_any_more_are_dropped() -> None:
    watch = LeaseWatch(10.0)
    for n in range(1000):
        watch.look(Key("", str(n)), HELD, float(n))

    assert 601 == len(watch._seen)


def test_lease_that_is_still_asked_about_keeps_no_forgotten_one_alive() -> None:
    watch = LeaseWatch(10.0)
    other = Key("http://127.0.0.1:80", "wreck")

    watch.look(KEY, HELD, 0.0)
    watch.look(other, HELD, 1.0)
    for now in (500.0, 700.0):
        watch.look(KEY, HELD, now)

    assert [KEY] == list(watch._seen)


@pytest.mark.anyio
@in_virtual_time
class TestClients:
    @pytest.mark.parametrize("jump", [3600.0, -3600.0])
    @pytest.mark.parametrize("on_uncertain", ["raise", "refetch"])
    async def test_wall_clock_that_jumps_declares_nobody_gone(
        self,
        emulator: Emulator,
        monkeypatch: pytest.MonkeyPatch,
        jump: float,
        on_uncertain: str,
    ) -> None:
        request_id = emulator.add_job()
        emulator.fault("result", Fault.hang(20))
        store = MemoryLedger()
        wall = clock.wall

        async with (
            in_process(emulator, ledger=store) as one,
            in_process(emulator, ledger=store, on_uncertain=on_uncertain) as other,
        ):
            first = asyncio.create_task(one.wait_for(request_id))
            await asyncio.sleep(3)
            monkeypatch.setattr(clock, "wall", lambda: wall() + jump)
            results = await asyncio.gather(first, other.wait_for(request_id))

        assert results[0] == results[1]
        assert {request_id: 1} == emulator.result_calls

    @pytest.mark.parametrize("ahead", [0.0, 1e9])
    async def test_job_armed_by_an_owner_that_is_gone_turns_uncertain_within_seconds(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, ahead: float
    ) -> None:
        """Also where its clock was far ahead, so that its lease ends in the far future."""
        request_id = emulator.add_job()
        job = make_job("veo-3", request_id)
        key = Key("http://127.0.0.1:80", request_id)
        store = MemoryLedger()
        wall = clock.wall
        with monkeypatch.context() as patch:
            patch.setattr(clock, "wall", lambda: wall() + ahead)
            await store.apply(key, Claim(job, "gone", "a1", 10.0))
            await store.apply(key, Arm("a1", 10.0))

        async with in_process(emulator, ledger=store) as client:
            began = asyncio.get_running_loop().time()
            with pytest.raises(ResultUncertainError) as caught:
                await client.wait_for(request_id)
            took = asyncio.get_running_loop().time() - began
            (entry,) = await client.unresolved()

        assert ("a1", "a1") == (caught.value.attempt, entry.attempt)
        assert 10 < took < 13
        assert {} == emulator.result_calls

    async def test_lease_from_a_clock_that_was_ahead_is_listed(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = MemoryLedger()
        wall = clock.wall
        with monkeypatch.context() as patch:
            patch.setattr(clock, "wall", lambda: wall() + 1e9)
            await store.apply(KEY, Claim(JOB, "gone", "a1", 10.0))
            await store.apply(KEY, Arm("a1", 10.0))

        async with in_process(emulator, ledger=store) as client:
            (entry,) = await client.unresolved()

        assert "uncertain" == entry.state

    async def test_claim_of_an_owner_that_is_gone_is_taken_over(
        self, emulator: Emulator
    ) -> None:
        request_id = emulator.add_job()
        job = make_job("veo-3", request_id)
        store = MemoryLedger()
        key = Key("http://127.0.0.1:80", request_id)
        await store.apply(key, Claim(job, "gone", "a1", 10.0))

        async with in_process(emulator, ledger=store) as client:
            result = await client.wait_for(request_id)
            paused = await store.apply(key, Arm("a1", 10.0))

        assert request_id == result.request_id
        assert paused is not None
        assert not paused.granted
        assert {request_id: 1} == emulator.result_calls

    @pytest.mark.parametrize("seconds", [10.0, 3600.0])
    async def test_no_byte_leaves_after_the_lease_that_was_armed(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, seconds: float
    ) -> None:
        """The machine was suspended between the arm's commit and the send."""
        request_id = emulator.add_job()
        monkeypatch.setattr(clock, "boottime", lambda: 0.0)
        calls_at_release: list[int] = []

        async def suspend(_: Move) -> None:
            monkeypatch.setattr(clock, "boottime", lambda: seconds)
            handle.after = None

        async def note(_: Move) -> None:
            calls_at_release.append(emulator.result_calls[request_id])

        handle = Handle(MemoryLedger(), after=on(Arm, suspend), before=on(Release, note))
        async with in_process(emulator, ledger=handle) as client:
            result = await client.wait_for(request_id)

        assert isinstance(result, Result)
        assert [0] == calls_at_release
        assert {request_id: 1} == emulator.result_calls

    async def test_proof_that_nothing_was_billed_counts_after_a_takeover(
        self, emulator: Emulator
    ) -> None:
        """The owner could not renew, was taken for gone, and then heard HTTP 402."""
        request_id = emulator.add_job()
        store = MemoryLedger()

        async def lose(move: Move) -> None:
            if type(move).__name__ == "Renew":
                raise OSError("the ledger is out of reach")

        refused = Fault.error(402, type="insufficient_balance")
        emulator.fault(
            "result",
            attrs.evolve(refused, change=lambda a: attrs.evolve(refused.change(a), hang=20.0)),
        )
        async with (
            in_process(emulator, ledger=Handle(store, before=lose)) as one,
            in_process(emulator, ledger=store) as other,
        ):
            first = asyncio.create_task(one.wait_for(request_id))
            await asyncio.sleep(1)
            with pytest.raises(ResultUncertainError):
                await other.wait_for(request_id)
            await asyncio.gather(first, return_exceptions=True)
            result = await other.wait_for(request_id)

        assert request_id == result.request_id
        assert {request_id: 1} == emulator.billed

    @pytest.mark.parametrize("renewed", [True, False])
    async def test_slow_connection_outlives_its_lease_only_while_that_is_renewed(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, *, renewed: bool
    ) -> None:
        """It was armed before it connected, since no answer has shown trace events yet."""
        request_id = emulator.add_job()
        now = asyncio.get_running_loop().time
        monkeypatch.setattr(clock, "boottime", now)
        transport = SlowToConnect(emulator, 15)

        async def out_of_reach(_: Move) -> None:
            raise OSError("the ledger is out of reach")

        store = MemoryLedger()
        ledger = store if renewed else Handle(store, before=on(Renew, out_of_reach))
        async with in_process(emulator, ledger=ledger, http_client=transport) as client:
            await client.result(request_id)

        assert {request_id: 1} == emulator.result_calls
        assert (1 if renewed else 2) == transport.connections


class SlowToConnect(httpx.AsyncBaseTransport):
    """The emulator, at whose first request it takes long to get a connection."""

    emits_httpcore_trace_events = True

    def __init__(self, emulator: Emulator, seconds: float) -> None:
        self.inner = emulator.transport()
        self.seconds = seconds
        self.connections = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.connections += 1
        if self.connections == 1:
            await asyncio.sleep(self.seconds)
        return await self.inner.handle_async_request(request)


REEF, WRECK = Key("http://127.0.0.1:80", "reef"), Key("http://127.0.0.1:80", "wreck")


@pytest.mark.anyio
@in_virtual_time
class TestOwnLeases:
    """The leases of this client's attempts, which it renews."""

    async def test_lease_is_renewed_at_every_beat_until_it_is_let_go(self) -> None:
        store = await Armed.make()
        leases = Leases(store, Tasks())

        leases.hold(REEF, "a1")
        leases.hold(WRECK, "a1")
        await asyncio.sleep(2.5 * BEAT)
        leases.let_go(REEF, "a1")
        await asyncio.sleep(2 * BEAT)

        assert ["reef", "wreck"] * 2 + ["wreck"] * 2 == store.renewed

    async def test_call_that_begins_after_all_others_ended_is_renewed_too(self) -> None:
        store = await Armed.make()
        leases = Leases(store, Tasks())

        leases.hold(REEF, "a1")
        leases.let_go(REEF, "a1")
        await asyncio.sleep(10 * BEAT)
        leases.hold(WRECK, "a1")
        await asyncio.sleep(2.5 * BEAT)

        assert ["wreck"] * 2 == store.renewed

    async def test_call_that_begins_while_another_is_renewed_doubles_no_renewal(self) -> None:
        store = await Armed.make()
        leases = Leases(store, Tasks())

        leases.hold(REEF, "a1")
        await asyncio.sleep(0.5 * BEAT)
        leases.hold(WRECK, "a1")
        await asyncio.sleep(2 * BEAT)

        assert ["reef", "wreck"] * 2 == store.renewed

    async def test_nothing_is_renewed_after_the_close(self) -> None:
        store = await Armed.make()
        leases = Leases(store, Tasks())

        leases.hold(REEF, "a1")
        await asyncio.sleep(1.5 * BEAT)
        leases.stop()
        await asyncio.sleep(10 * BEAT)

        assert ["reef"] == store.renewed

    async def test_lease_of_a_later_attempt_is_not_let_go(self) -> None:
        store = await Armed.make()
        leases = Leases(store, Tasks())

        leases.hold(REEF, "a1")
        leases.let_go(REEF, "a0")
        await asyncio.sleep(1.5 * BEAT)

        assert ["reef"] == store.renewed

    async def test_attempt_that_was_not_armed_is_never_in_time(self) -> None:
        leases = Leases(await Armed.make(), Tasks())

        leases.hold(REEF, "a1")

        assert not leases.in_time(REEF)

    async def test_ledger_that_loses_a_claim_before_it_is_armed_is_an_error(self) -> None:
        leases = Leases(MemoryLedger(), Tasks())

        leases.hold(REEF, "a1")
        with pytest.raises(LedgerError, match="lost an entry"):
            await leases.arm(REEF, "a1")

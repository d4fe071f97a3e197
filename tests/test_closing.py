"""`aclose`: bounded whatever the ledger does, and nobody is left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from ledgers import Handle, Seen, forever, hang, on
from support import in_process, in_virtual_time

from modelmax_async import (
    AsyncQueueClient,
    ClientStateError,
    MemoryLedger,
    Result,
    ResultUncertainError,
)
from modelmax_async._runtime.tasks import Life, Tasks
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, LedgerFailed
from modelmax_async.ledger import Arm, Claim, Key, Look, Move, Remember, Renew, Store

pytestmark = [pytest.mark.anyio, in_virtual_time]
LONG = JobScript(run_seconds=300)

ITERATORS: dict[str, Callable[[AsyncQueueClient, str], AsyncGenerator[Any, None]]] = {
    "as_completed": lambda client, job: client.as_completed([job]),
    "watch": lambda client, job: client.watch(job),
}
each_iterator = pytest.mark.parametrize("make", ITERATORS.values(), ids=ITERATORS.keys())


async def closed_after(client: AsyncQueueClient) -> float:
    began = asyncio.get_running_loop().time()
    await client.aclose()
    return asyncio.get_running_loop().time() - began


@each_iterator
async def test_iterator_made_before_the_close_and_used_after_it_ends(
    emulator: Emulator, make: Callable[[AsyncQueueClient, str], AsyncGenerator[Any, None]]
) -> None:
    async with in_process(emulator) as client:
        iterator = make(client, emulator.add_job())
        await client.aclose()

        async with asyncio.timeout(60):
            with pytest.raises(ClientStateError, match="closed"):
                await anext(iterator)


@each_iterator
async def test_iterator_started_while_the_client_closes_ends(
    emulator: Emulator, make: Callable[[AsyncQueueClient, str], AsyncGenerator[Any, None]]
) -> None:
    busy, wanted = emulator.add_job(), emulator.add_job()
    emulator.fault("result", Fault.hang(20), request_id=busy)

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(busy))
        await asyncio.sleep(1)
        iterator = make(client, wanted)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(1)
        with pytest.raises(ClientStateError):
            await anext(iterator)
        await closing

    assert isinstance(await waiting, Result)


@each_iterator
async def test_iterator_under_way_ends_with_the_client(
    emulator: Emulator, make: Callable[[AsyncQueueClient, str], AsyncGenerator[Any, None]]
) -> None:
    request_id = emulator.add_job(script=LONG)

    async def exhaust() -> list[Any]:
        return [item async for item in make(client, request_id)]

    async with in_process(emulator) as client:
        using = asyncio.create_task(exhaust())
        await asyncio.sleep(5)
        await client.aclose()
        await asyncio.wait([using])

    error = using.exception() or using.result()[0].error
    assert isinstance(error, ClientStateError)


@pytest.mark.parametrize("kind", [Look, Remember, Claim, Arm, Store])
async def test_ledger_that_hangs_does_not_hold_up_the_close(
    emulator: Emulator, kind: type[Move]
) -> None:
    jobs = [emulator.add_job() for _ in range(3)] + [emulator.add_job(script=LONG)]
    ledger = Handle(MemoryLedger(), before=on(kind, hang))

    async with in_process(emulator, ledger=ledger, timeout=10) as client:
        waiting = [asyncio.create_task(client.wait_for(job)) for job in jobs]
        await asyncio.sleep(5)
        seconds = await closed_after(client)
        ended = await asyncio.gather(*waiting, return_exceptions=True)

    assert seconds < 60
    assert {ClientStateError, Result} >= {type(end) for end in ended}


async def test_ledger_whose_close_hangs_does_not_hold_up_the_close(emulator: Emulator) -> None:
    class Stuck(MemoryLedger):
        async def aclose(self) -> None:
            await forever()

    async with in_process(emulator, ledger=Stuck()) as client:
        await client.wait_for(emulator.add_job())

        assert await closed_after(client) < 10


async def test_answers_that_cannot_be_stored_are_tried_together_and_reported(
    emulator: Emulator,
) -> None:
    """Twelve answers, and a ledger that takes ten seconds to refuse each of them."""
    jobs = [emulator.add_job() for _ in range(12)]
    seen: list[Event] = []

    async def refuse(_: Move) -> None:
        await asyncio.sleep(10)
        raise OSError("database is locked")

    ledger = Handle(MemoryLedger(), before=on(Store, refuse))
    async with in_process(emulator, ledger=ledger, hooks=[seen.append]) as client:
        results = await client.gather_results(jobs)
        seconds = await closed_after(client)

    lost = [e.job.request_id for e in seen if isinstance(e, LedgerFailed) and "lost" in e.cause]
    assert jobs == [result.request_id for result in results]
    assert sorted(jobs) == sorted(lost)
    assert seconds < 20
    assert dict.fromkeys(jobs, 1) == emulator.billed


async def test_ledger_that_hangs_at_the_store_still_gives_the_result(
    emulator: Emulator,
) -> None:
    seen: list[Event] = []
    ledger = Handle(MemoryLedger(), before=on(Store, hang))

    async with in_process(emulator, ledger=ledger, hooks=[seen.append]) as client:
        request_id = emulator.add_job()
        result = await client.wait_for(request_id)
        again = await client.wait_for(request_id)

    causes = [event.cause for event in seen if isinstance(event, LedgerFailed)]
    assert result == again
    assert "not stored yet" in causes[0]
    assert {request_id: 1} == emulator.billed


async def test_store_that_hangs_delays_no_renewal(emulator: Emulator) -> None:
    """Another client would take the second call for dead, and pay again."""
    first, second = emulator.add_job(), emulator.add_job()
    emulator.fault("result", Fault.hang(25), request_id=second)
    store = Seen()
    ledger = Handle(store, before=on(Store, hang))

    async with in_process(emulator, ledger=ledger) as client:
        waiting = [asyncio.create_task(client.wait_for(job)) for job in (first, second)]
        await asyncio.sleep(24)
        renewed = [key for key, move in store.applied if isinstance(move, Renew)]
        for task in waiting:
            task.cancel()

    assert 9 == [key.request_id for key in renewed].count(second)


async def test_renewal_that_fails_or_hangs_delays_no_other(emulator: Emulator) -> None:
    jobs = [emulator.add_job() for _ in range(3)]
    emulator.fault("result", Fault.hang(24), times=None)
    store = Seen()

    async def fail(key: Key) -> None:
        if key.request_id == jobs[0]:
            raise OSError("the ledger is out of reach")
        if key.request_id == jobs[1]:
            await forever()

    class Broken(Handle):
        async def apply(self, key: Key, move: Move) -> Any:
            if isinstance(move, Renew):
                await fail(key)
            return await super().apply(key, move)

    async with in_process(emulator, ledger=Broken(store)) as client:
        results = await client.gather_results(jobs)
        renewed = [key.request_id for key, move in store.applied if isinstance(move, Renew)]

    assert jobs == [result.request_id for result in results]
    assert [jobs[2]] * 9 == renewed


async def test_lease_is_not_renewed_once_the_call_is_over(emulator: Emulator) -> None:
    store = Seen()
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with in_process(emulator, ledger=store) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        await asyncio.sleep(60)

    assert "Renew" not in store.kinds


async def test_backing_off_ends_with_the_client(emulator: Emulator) -> None:
    emulator.fault("result", Fault.error(503, retry_after="3000"), times=None)

    async with in_process(emulator) as client:
        asking = asyncio.create_task(client.result(emulator.add_job()))
        await asyncio.sleep(5)
        seconds = await closed_after(client)
        (ended,) = await asyncio.gather(asking, return_exceptions=True)

    assert isinstance(ended, ClientStateError)
    assert 0 == seconds


async def test_waiting_for_another_clients_call_ends_with_the_client(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(25))
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=store) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        second = asyncio.create_task(other.result(request_id))
        await asyncio.sleep(1)
        await other.aclose()
        (ended,) = await asyncio.gather(second, return_exceptions=True)
        await first

    assert isinstance(ended, ClientStateError)


async def test_client_says_how_far_it_is_in_its_life(emulator: Emulator) -> None:
    emulator.fault("result", Fault.hang(5))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        await asyncio.sleep(1)
        states = [repr(client)]
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(1)
        states.append(repr(client))
        await closing
        states.append(repr(client))
        await waiting

    assert ["open", "closing", "closed"] == [state.split()[1].strip(",") for state in states]


async def test_close_whose_task_was_cancelled_at_once_can_be_called_again(
    emulator: Emulator,
) -> None:
    async with in_process(emulator) as client:
        await client.wait_for(emulator.add_job())
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        assert client._engine._closing is not None
        client._engine._closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await client.aclose()

        assert client._engine.tasks.life is Life.CLOSED


async def test_nothing_is_waited_for_in_a_client_that_closes() -> None:
    tasks = Tasks()
    tasks.bind()
    sleeping = asyncio.create_task(tasks.sleep(100))
    await asyncio.sleep(1)
    tasks.close()

    with pytest.raises(ClientStateError, match="closed"):
        await sleeping
    with pytest.raises(ClientStateError, match="closed"):
        tasks.bind()


async def test_close_that_was_cancelled_on_its_way_can_be_called_again(
    emulator: Emulator,
) -> None:
    emulator.fault("result", Fault.hang(20))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        await asyncio.sleep(1)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(1)
        assert client._engine._closing is not None
        client._engine._closing.cancel()
        await closing

        assert client._engine.tasks.life is Life.CLOSED
    assert isinstance(await waiting, Result)


async def test_close_that_is_cancelled_again_and_again_can_be_called_again(
    emulator: Emulator,
) -> None:
    emulator.fault("result", Fault.hang(20))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        await asyncio.sleep(1)
        closing = asyncio.create_task(client.aclose())
        while not closing.done():
            await asyncio.sleep(1)
            assert client._engine._closing is not None
            client._engine._closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await client.aclose()

        assert client._engine.tasks.life is Life.CLOSED
    assert isinstance(await waiting, Result)


async def test_paid_answer_survives_whoever_cancels_all_tasks_twice(emulator: Emulator) -> None:
    """Once while the answer is being stored, and once more while the client closes."""
    request_id = emulator.add_job()
    store = MemoryLedger()
    arrived = asyncio.Event()

    async def strike(_: Move) -> None:
        if not arrived.is_set():
            arrived.set()
            await forever()

    client_ledger = Handle(store, before=on(Store, strike))
    async with in_process(emulator, ledger=client_ledger) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await arrived.wait()
        for task in client._engine.tasks.others():
            task.cancel()
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        for task in client._engine.tasks.others():
            task.cancel()
        await closing
        await asyncio.gather(waiting, return_exceptions=True)

    (entry,) = store._entries.values()
    assert "stored" == entry.state
    assert {request_id: 1} == emulator.billed

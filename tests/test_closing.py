"""`aclose`: it is bounded, and ends every waiter and iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from ledgers import Handle, NeverCloses, hang, on
from support import closed_after, in_process, in_virtual_time, two_clients

from modelmax_async import AsyncQueueClient, ClientStateError, MemoryLedger, Result
from modelmax_async._runtime.tasks import Life, Tasks
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.ledger import Arm, Claim, Look, Move, Remember, Store

pytestmark = [pytest.mark.anyio, in_virtual_time]
LONG = JobScript(run_seconds=300)
ITERATORS: dict[str, Callable[[AsyncQueueClient, str], AsyncGenerator[Any, None]]] = {
    "as_completed": lambda client, job: client.as_completed([job]),
    "watch": lambda client, job: client.watch(job),
}


each_iterator = pytest.mark.parametrize("make", ITERATORS.values(), ids=ITERATORS.keys())


def cancel_the_close(client: AsyncQueueClient) -> None:
    """Cancel the client's own task that closes it."""
    closing = client._engine._closing
    assert closing is not None
    closing.cancel()


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
        result = await waiting

    assert isinstance(result, Result)


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
async def test_ledger_that_hangs_does_not_block_the_close(
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


async def test_ledger_whose_close_hangs_does_not_block_the_close(emulator: Emulator) -> None:
    async with in_process(emulator, ledger=NeverCloses()) as client:
        await client.wait_for(emulator.add_job())

        seconds = await closed_after(client)

    assert seconds < 10


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

    async with two_clients(emulator, store) as (one, other):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        second = asyncio.create_task(other.result(request_id))
        await asyncio.sleep(1)
        await other.aclose()
        (ended,) = await asyncio.gather(second, return_exceptions=True)
        await first

    assert isinstance(ended, ClientStateError)


async def test_repr_shows_whether_the_client_is_open_closing_or_closed(
    emulator: Emulator,
) -> None:
    emulator.fault("result", Fault.hang(5))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        await asyncio.sleep(1)
        shown = [repr(client)]
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(1)
        shown.append(repr(client))
        await closing
        shown.append(repr(client))
        await waiting

    assert ["open", "closing", "closed"] == [text.split()[1].strip(",") for text in shown]


async def test_close_whose_task_was_cancelled_at_once_can_be_called_again(
    emulator: Emulator,
) -> None:
    async with in_process(emulator) as client:
        await client.wait_for(emulator.add_job())
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        cancel_the_close(client)
        await asyncio.gather(closing, return_exceptions=True)
        await client.aclose()

        life = client._engine.tasks.life

    assert Life.CLOSED is life


async def test_sleep_ends_when_the_client_closes() -> None:
    tasks = Tasks()
    tasks.bind()
    sleeping = asyncio.create_task(tasks.sleep(100))
    await asyncio.sleep(1)
    tasks.close()

    with pytest.raises(ClientStateError, match="closed"):
        await sleeping
    with pytest.raises(ClientStateError, match="closed"):
        tasks.bind()


async def test_close_that_was_cancelled_midway_can_be_called_again(
    emulator: Emulator,
) -> None:
    emulator.fault("result", Fault.hang(20))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        await asyncio.sleep(1)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(1)
        cancel_the_close(client)
        await closing

        life = client._engine.tasks.life
        result = await waiting

    assert Life.CLOSED is life
    assert isinstance(result, Result)


async def test_close_that_is_cancelled_repeatedly_can_be_called_again(
    emulator: Emulator,
) -> None:
    emulator.fault("result", Fault.hang(20))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        await asyncio.sleep(1)
        closing = asyncio.create_task(client.aclose())
        while not closing.done():
            await asyncio.sleep(1)
            cancel_the_close(client)
        with pytest.raises(asyncio.CancelledError):
            await closing
        await client.aclose()

        life = client._engine.tasks.life
        result = await waiting

    assert Life.CLOSED is life
    assert isinstance(result, Result)


async def test_closing_ends_every_waiter(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=LONG)

    async with in_process(emulator) as client:
        waiters = [asyncio.create_task(client.wait_for(request_id)) for _ in range(3)]
        batch: asyncio.Task[list[Any]] = asyncio.create_task(
            client.gather_results([request_id], return_exceptions=True)
        )
        await asyncio.sleep(5)
        await client.aclose()
        ended = await asyncio.gather(*waiters, return_exceptions=True)
        gathered = await batch

    assert [ClientStateError] * 3 == [type(end) for end in ended]
    assert [ClientStateError] == [type(end) for end in gathered]


async def test_closing_cuts_a_free_call_short(emulator: Emulator) -> None:
    emulator.fault("status", Fault.hang(15))

    async with in_process(emulator) as client:
        asking = asyncio.create_task(client.status(emulator.add_job()))
        await asyncio.sleep(1)
        seconds = await closed_after(client)
        (ended,) = await asyncio.gather(asking, return_exceptions=True)

    assert isinstance(ended, ClientStateError)
    assert seconds < 1

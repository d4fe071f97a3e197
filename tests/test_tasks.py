"""Tasks that run to their end whatever becomes of those who wait for them."""

from __future__ import annotations

import asyncio

import pytest
from support import in_virtual_time

from modelmax_async import ClientStateError
from modelmax_async._runtime.tasks import GRACE, Tasks, uncancelled


def now() -> float:
    return asyncio.get_running_loop().time()


async def number(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 7


async def stubborn(seconds: float) -> None:
    """Take that long to put things away when cancelled."""
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        await asyncio.sleep(seconds)


def test_client_belongs_to_the_event_loop_of_its_first_use() -> None:
    tasks = Tasks()

    async def bind_twice() -> None:
        assert asyncio.get_running_loop() is tasks.bind()
        tasks.bind()

    asyncio.run(bind_twice())
    with pytest.raises(ClientStateError, match="another event loop"):
        asyncio.run(bind_twice())


@pytest.mark.anyio
@in_virtual_time
class TestOnOneLoop:
    async def test_task_that_ended_is_not_kept(self) -> None:
        tasks = Tasks()

        task = tasks.spawn(number(1))
        running = tasks.others()
        await task
        await asyncio.sleep(0)

        assert {task} == running
        assert set() == tasks.others()

    async def test_task_that_is_forgotten_counts_no_more(self) -> None:
        tasks = Tasks()

        task = tasks.spawn(number(1))
        tasks.forget(task)

        assert set() == tasks.others()
        assert 7 == await task

    async def test_cancelled_caller_leaves_the_task_running(self) -> None:
        tasks = Tasks()

        caller = asyncio.create_task(tasks.run(number(5)))
        await asyncio.sleep(1)
        (task,) = tasks.others() - {caller}
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)

        assert 7 == await task

    async def test_task_that_the_client_cancelled_is_no_cancellation_of_who_waits(
        self,
    ) -> None:
        tasks = Tasks()
        task = tasks.spawn(number(5))

        waiting = asyncio.create_task(tasks.outcome(task))
        await asyncio.sleep(1)
        task.cancel()

        with pytest.raises(ClientStateError, match="closed while this call was under way"):
            await waiting

    @pytest.mark.parametrize(
        ("seconds", "took", "done"), [(2.0, 3.0, True), (100.0, 1.0 + GRACE, False)]
    )
    async def test_late_task_is_cancelled_and_gets_a_moment_to_end(
        self, seconds: float, took: float, *, done: bool
    ) -> None:
        tasks = Tasks()
        late = tasks.spawn(stubborn(seconds))

        await tasks.finish({late}, 1.0)

        assert took == now()
        assert done is late.done()
        late.cancel()

    async def test_task_that_ends_in_time_is_not_cancelled(self) -> None:
        tasks = Tasks()
        task = tasks.spawn(number(1))

        await tasks.finish({task}, 5.0)

        assert (1.0, 7) == (now(), task.result())

    async def test_cancellation_waits_for_the_task_and_is_then_let_through(self) -> None:
        task = asyncio.create_task(number(5))

        waiting = asyncio.create_task(uncancelled(task))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])

        assert waiting.cancelled()
        assert (5.0, 7) == (now(), task.result())

    async def test_who_is_not_cancelled_gets_the_result(self) -> None:
        assert 7 == await uncancelled(asyncio.create_task(number(1)))


@pytest.mark.anyio
async def test_cancelled_task_is_no_error_of_the_loop() -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    tasks = Tasks()

    task = tasks.spawn(number(10))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)

    assert [] == errors

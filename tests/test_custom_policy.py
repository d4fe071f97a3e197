"""A polling policy that the caller wrote."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import in_process, in_virtual_time

from modelmax_async import ConfigurationError, GatherError, WaitState
from modelmax_async.emulator import Emulator, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]


class Constant:
    """A policy that always returns the same delay."""

    def __init__(self, delay: Any) -> None:
        self.value = delay

    def delay(self, wait: WaitState, random: float) -> Any:
        return self.value


@pytest.mark.parametrize("delay", [None, "soon", -1.0, float("nan")])
async def test_policy_without_a_usable_delay_is_refused_at_once(
    emulator: Emulator, delay: Any
) -> None:
    with pytest.raises(ConfigurationError, match="poll"):
        async with in_process(emulator, poll=Constant(delay)):
            pass


async def test_policy_may_poll_without_a_delay(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(lag_polls=3))

    async with in_process(emulator, poll=Constant(0)) as client:
        await client.wait_for(request_id)

    assert 1 < emulator.polls[request_id]


async def test_custom_policy_is_followed(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=25))

    async with in_process(emulator, poll=Constant(10)) as client:
        await client.wait_for(request_id)
        at = asyncio.get_running_loop().time()

    assert 30.0 == pytest.approx(at, abs=0.1)


class NotANumberLater:
    """A policy that passes the check of the client, and returns NaN from then on."""

    def __init__(self, delay: float) -> None:
        self.delays = iter([1.0])
        self.last = delay

    def delay(self, wait: WaitState, random: float) -> float:
        return next(self.delays, self.last)


@pytest.mark.parametrize("delay", [float("nan"), -1.0])
async def test_policy_that_returns_an_unusable_delay_later_ends_the_wait(
    emulator: Emulator, delay: float
) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=25))

    async with in_process(emulator, poll=NotANumberLater(delay)) as client:
        with pytest.raises(ConfigurationError, match=r"poll\.delay\(\) must return seconds"):
            await client.wait_for(request_id)

    assert {request_id: 1} == emulator.polls


class BrokenLater:
    """A policy that passes the check of the client, and raises once, at a later delay."""

    def __init__(self, at: int = 2) -> None:
        self.asked = 0
        self.at = at

    def delay(self, wait: WaitState, random: float) -> float:
        self.asked += 1
        if self.asked == self.at:
            raise ValueError("no delay")
        return 1.0


async def test_watch_of_a_job_whose_policy_failed_ends(
    emulator: Emulator,
) -> None:
    jobs = [emulator.add_job() for _ in range(50)]

    async with in_process(emulator, poll=BrokenLater()) as client:
        with pytest.raises(ValueError, match="no delay"):
            await client.gather_results(jobs)
        watched = [asyncio.create_task(anext(client.watch(job))) for job in jobs]
        _, late = await asyncio.wait(watched, timeout=3600)
        for task in late:
            task.cancel()

    assert not late


async def test_batch_whose_policy_fails_at_the_start_fetches_nothing(
    emulator: Emulator,
) -> None:
    jobs = [emulator.add_job() for _ in range(50)]

    async with in_process(emulator, poll=BrokenLater()) as client:
        with pytest.raises(ValueError, match="no delay"):
            await client.gather_results(jobs)
        await asyncio.sleep(60)
        left = repr(client)

    assert {} == emulator.billed
    assert "<Poller: 0 jobs" in left


async def test_policy_that_fails_once_ends_the_wait_for_one_job(emulator: Emulator) -> None:
    jobs = [emulator.add_job(script=JobScript(run_seconds=5)) for _ in range(50)]

    async with in_process(emulator, poll=BrokenLater(40)) as client:
        with pytest.raises(GatherError) as caught:
            await client.gather_results(jobs)

    assert ["no delay"] == [str(error) for error in caught.value.exceptions]
    assert 49 == emulator.billed_total

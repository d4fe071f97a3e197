"""`wait_for`, `watch`, `generate`: polls, then one billed call, whatever the server does."""

from __future__ import annotations

import asyncio
import sys
import time
from email.utils import formatdate
from typing import Any

import pytest
from support import in_process, in_virtual_time

from modelmax_async import (
    AuthenticationError,
    BadRequestError,
    ClientStateError,
    ConfigurationError,
    InconsistentStateError,
    InsufficientBalanceError,
    InvalidResponseError,
    JobFailedError,
    JobTimeoutError,
    ModelMaxError,
    NotFoundError,
    NotReadyError,
    PollPolicy,
    Result,
    RetryPolicy,
    ServerError,
    Status,
    StatusReport,
    VideoParameters,
)
from modelmax_async._runtime.hooks import call_safely
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]
STEADY = PollPolicy(initial=1.0, factor=1.5, maximum=10.0, jitter=0.0)


async def test_completed_job_costs_n_polls_and_one_result_call(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(queue_seconds=1, run_seconds=3))

    async with in_process(emulator, poll=STEADY) as client:
        result = await client.wait_for(request_id)

    # Polled at 0, 1, 2.5 and 4.75 seconds.
    assert request_id == result.request_id
    assert {request_id: 4} == emulator.polls
    assert {request_id: 1} == emulator.result_calls
    assert {request_id: 1} == emulator.billed


async def test_fresh_submit_is_first_polled_after_the_initial_interval(
    emulator: Emulator,
) -> None:
    async with in_process(emulator, poll=STEADY) as client:
        job = await client.submit("a reef")
        started = asyncio.get_running_loop().time()
        await client.wait_for(job)
        waited = asyncio.get_running_loop().time() - started

    assert 1.0 == pytest.approx(waited, abs=0.1)
    assert {job.request_id: 1} == emulator.polls


async def test_failed_job_raises_the_servers_text_and_is_never_fetched(
    emulator: Emulator,
) -> None:
    script = JobScript(run_seconds=2, outcome="FAILED", error="blocked by a filter")
    request_id = emulator.add_job(script=script)

    async with in_process(emulator) as client:
        with pytest.raises(JobFailedError, match="blocked by a filter") as caught:
            await client.wait_for(request_id)
        with pytest.raises(JobFailedError):
            await client.wait_for(request_id)

    assert "blocked by a filter" == caught.value.error
    assert request_id == caught.value.job.request_id
    assert {} == emulator.result_calls


async def test_timeout_carries_the_job_and_waiting_again_works(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=60))

    async with in_process(emulator) as client:
        with pytest.raises(JobTimeoutError) as caught:
            await client.wait_for(request_id, timeout=30)
        at = asyncio.get_running_loop().time()
        result = await client.wait_for(caught.value.job)

    assert 30.0 == at
    assert Status.IN_PROGRESS == caught.value.last_status
    assert isinstance(caught.value, TimeoutError)
    assert request_id == result.request_id
    assert 1 == emulator.billed_total


async def test_timeout_cuts_a_status_call_that_hangs(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.hang(1000))

    async with in_process(emulator) as client:
        with pytest.raises(JobTimeoutError):
            await client.wait_for(request_id, timeout=5)

        assert 5.0 == asyncio.get_running_loop().time()


async def test_hundred_waiters_share_polls_and_one_billed_call(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=4))

    async with in_process(emulator, poll=STEADY) as client:
        results = await asyncio.gather(*(client.wait_for(request_id) for _ in range(100)))

    assert [results[0]] * 100 == results
    assert {request_id: 4} == emulator.polls
    assert {request_id: 1} == emulator.billed


async def test_ninety_nine_cancelled_and_the_last_still_gets_it(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=4))

    async with in_process(emulator) as client:
        waiters = [asyncio.create_task(client.wait_for(request_id)) for _ in range(100)]
        await asyncio.sleep(2)
        for waiter in waiters[:99]:
            waiter.cancel()
        ended = await asyncio.gather(*waiters, return_exceptions=True)

    assert [asyncio.CancelledError] * 99 == [type(end) for end in ended[:99]]
    assert isinstance(ended[99], Result)
    assert {request_id: 1} == emulator.billed


async def test_nobody_left_waiting_stops_the_polls(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=1000))

    async with in_process(emulator) as client:
        with pytest.raises(JobTimeoutError):
            await client.wait_for(request_id, timeout=10)
        polls = emulator.polls[request_id]
        await asyncio.sleep(500)

    assert polls == emulator.polls[request_id]


_FAULTS: dict[str, Fault] = {
    "502": Fault.error(502),
    "500": Fault.error(500),
    "429 seconds": Fault.error(429, retry_after="7"),
    "503 date": Fault.error(503, retry_after=formatdate(time.time() + 9, usegmt=True)),
    "408": Fault.error(408),
    "html": Fault.html(502),
    "html 200": Fault.html(200),
    "dropped": Fault.drop_before(),
    "redirect": Fault.redirect("https://elsewhere.example/"),
    "hang": Fault.hang(45),
    "garbled": Fault.garble(),
    "truncated": Fault.truncate(10),
    "oversized": Fault.oversize(9 * 1024 * 1024),
    "bomb": Fault.gzip(n_bytes=9 * 1024 * 1024),
}


@pytest.mark.parametrize("fault", _FAULTS.values(), ids=_FAULTS.keys())
async def test_wait_goes_on_after_a_failed_poll(emulator: Emulator, fault: Fault) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))
    emulator.fault("status", fault, times=2)

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert 1 == emulator.billed_total


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_a_minimum(emulator: Emulator, form: str) -> None:
    request_id = emulator.add_job()
    date = formatdate(time.time() + 41, usegmt=True)
    fault = Fault.error(429, retry_after="40" if form == "seconds" else date)
    emulator.fault("status", fault)

    async with in_process(emulator) as client:
        await client.wait_for(request_id)

        assert asyncio.get_running_loop().time() >= 39


@pytest.mark.parametrize("fault", [Fault.error(401, type="unauthorized"), Fault.error(403)])
async def test_rejected_key_ends_the_wait_at_once(emulator: Emulator, fault: Fault) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", fault)

    async with in_process(emulator) as client:
        with pytest.raises(ModelMaxError) as caught:
            await client.wait_for(request_id)

    assert caught.value.job is not None
    assert request_id == caught.value.job.request_id
    assert {request_id: 1} == emulator.polls


async def test_wrong_key_is_an_authentication_error(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator, api_key="sk-wrong") as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.wait_for(request_id)

    assert 401 == caught.value.status_code
    assert "sk-wrong" not in str(caught.value)


async def test_unknown_id_ends_the_wait_at_once(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(BadRequestError, match="no-such-job"):
            await client.wait_for("no-such-job")


async def test_passing_404_is_waited_out_and_a_lasting_one_is_not(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.error(404), times=3)

    async with in_process(emulator) as client:
        await client.wait_for(request_id)
        emulator.fault("status", Fault.error(404), times=None)
        with pytest.raises(NotFoundError):
            await client.wait_for(emulator.add_job())


async def test_uninterrupted_failure_ends_after_give_up_after(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.error(502), times=None)

    async with in_process(emulator, retry=RetryPolicy(give_up_after=100)) as client:
        with pytest.raises(ServerError) as caught:
            await client.wait_for(request_id, timeout=None)
        at = asyncio.get_running_loop().time()

    assert 502 == caught.value.status_code
    assert 100 <= at <= 131


async def test_a_good_answer_starts_the_patience_anew(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=250))
    for _ in range(12):
        emulator.fault("status", Fault.error(502), times=3)
        emulator.fault("status", Fault.raw(200, b'{"status": "IN_PROGRESS"}'))

    async with in_process(emulator, retry=RetryPolicy(give_up_after=60)) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id


async def test_unknown_words_and_fields_crash_nothing(emulator: Emulator) -> None:
    script = JobScript(statuses=("WARMING_UP", "IN_QUEUE", "COMPLETED"), extra={"new": [1]})
    request_id = emulator.add_job(script=script)
    seen: list[StatusReport] = []

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id, on_status=seen.append)

    assert ["WARMING_UP", "IN_QUEUE", "COMPLETED"] == [report.status for report in seen]
    assert [1] == result.raw["new"]
    assert [1] == seen[0].raw["new"]


async def test_callback_that_raises_costs_nothing(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(report: StatusReport) -> None:
        raise RuntimeError(report.status)

    async with in_process(emulator, hooks=[lambda _: 1 / 0]) as client:
        result = await client.wait_for(emulator.add_job(), on_status=broken)

    assert isinstance(result, Result)
    assert "a callback failed on StatusReport" in caplog.text
    assert "a callback failed on ResultStored" in caplog.text


async def test_callback_that_is_cancelled_itself_hangs_nobody(emulator: Emulator) -> None:
    def broken(report: StatusReport) -> None:
        raise asyncio.CancelledError(report.status)

    request_id = emulator.add_job()

    async with in_process(emulator) as client:
        results = await asyncio.gather(
            client.wait_for(request_id, on_status=broken), client.wait_for(request_id)
        )

    assert [request_id] * 2 == [result.request_id for result in results]


async def test_callback_that_exits_the_program_is_let_through(emulator: Emulator) -> None:
    with pytest.raises(SystemExit):
        call_safely(sys.exit, 3)


async def test_visit_ended_from_outside_tells_those_who_wait(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.hang(20))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        for task in client._engine.tasks.others():
            task.cancel()
        with pytest.raises(ClientStateError, match="ended from outside"):
            await waiting
        result = await client.wait_for(request_id)

    assert request_id == result.request_id


class _Policy:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def delay(self, attempt: int, elapsed: float, random: float) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [None, "soon", -1.0, float("nan")])
async def test_policy_that_does_not_work_is_refused_at_once(
    emulator: Emulator, answer: Any
) -> None:
    with pytest.raises(ConfigurationError, match="poll"):
        async with in_process(emulator, poll=_Policy(answer)):
            pass


async def test_policy_of_ones_own_is_followed(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=25))

    async with in_process(emulator, poll=_Policy(10)) as client:
        await client.wait_for(request_id)
        at = asyncio.get_running_loop().time()

    assert 30.0 == pytest.approx(at, abs=0.1)


async def test_result_that_lags_behind_status_is_polled_again(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(lag_polls=3))

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 4} == emulator.result_calls
    assert {request_id: 1} == emulator.billed


async def test_result_that_never_agrees_is_inconsistent_after_a_minute(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(lag_polls=10_000))

    async with in_process(emulator) as client:
        with pytest.raises(InconsistentStateError, match="nothing was billed"):
            await client.wait_for(request_id)
        at = asyncio.get_running_loop().time()

    assert 60 < at < 80
    assert 0 == emulator.billed_total


async def test_watch_yields_each_change_and_never_bills(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(queue_seconds=20, run_seconds=20))

    async with in_process(emulator) as client:
        seen = [report.status async for report in client.watch(request_id)]

    assert [Status.IN_QUEUE, Status.IN_PROGRESS, Status.COMPLETED] == seen
    assert {} == emulator.result_calls


async def test_watch_of_a_failed_job_ends_with_its_report(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="no"))

    async with in_process(emulator) as client:
        seen = [report async for report in client.watch(request_id)]

    assert ["no"] == [report.error for report in seen]


async def test_watch_raises_what_ends_the_polling(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(BadRequestError):
            async for _ in client.watch("no-such-job"):
                pass


async def test_watching_and_waiting_share_the_polls(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=30))

    async with in_process(emulator, poll=STEADY) as client:

        async def watched() -> list[Any]:
            return [report.status async for report in client.watch(request_id)]

        watcher = asyncio.create_task(watched())
        await asyncio.sleep(12)
        result, seen = await asyncio.gather(client.wait_for(request_id), watcher)

    assert request_id == result.request_id
    assert [Status.IN_PROGRESS, Status.COMPLETED] == seen
    assert {request_id: 1} == emulator.billed
    assert emulator.polls[request_id] < 12


async def test_watching_hears_of_a_result_that_the_ledger_has(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator) as client:
        await client.wait_for(request_id)
        emulator.fault("status", Fault.hang(20))
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(0)
        seen = [report.status async for report in client.watch(request_id)]
        await waiting

    assert [Status.COMPLETED] == seen


async def test_watching_hears_of_a_failure_that_the_ledger_has(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="no"))

    async with in_process(emulator) as client:
        waits = [client.wait_for(request_id), client.wait_for(request_id)]
        for wait in waits:
            waiting = asyncio.create_task(wait)
            await asyncio.sleep(0)
            seen = [report.error async for report in client.watch(request_id)]
            await asyncio.gather(waiting, return_exceptions=True)

    assert ["no"] == seen
    assert {request_id: 1} == emulator.polls


async def test_notify_polls_at_once(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=62))
    poll = PollPolicy(initial=60, maximum=600, factor=10, jitter=0)

    async with in_process(emulator, poll=poll) as client:
        client.notify(request_id)
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(63)
        client.notify(request_id)
        await waiting
        at = asyncio.get_running_loop().time()

    assert 63.0 == pytest.approx(at, abs=0.5)


async def test_notify_during_a_poll_polls_once_more(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(statuses=("IN_PROGRESS", "COMPLETED")))
    emulator.fault("status", Fault.hang(5))
    poll = PollPolicy(initial=600, maximum=600, jitter=0)

    async with in_process(emulator, poll=poll) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        client.notify(request_id)
        await waiting

        assert 5.0 == pytest.approx(asyncio.get_running_loop().time(), abs=0.5)


async def test_generate_submits_and_waits(emulator: Emulator) -> None:
    emulator.script(JobScript(run_seconds=30))

    async with in_process(emulator) as client:
        result = await client.generate("a reef", parameters=VideoParameters(sample_count=2))

    assert [0, 1] == [video.index for video in result.videos]
    assert 1 == emulator.billed_total


async def test_every_error_after_the_submit_carries_the_job(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        emulator.fault("status", Fault.error(401), times=None)
        with pytest.raises(AuthenticationError) as caught:
            await client.generate("a reef")

        emulator.clear_faults()
        assert caught.value.job is not None
        assert isinstance(await client.wait_for(caught.value.job), Result)


async def test_submit_without_balance_charges_nothing(emulator: Emulator) -> None:
    emulator.balance = 0.0

    async with in_process(emulator) as client:
        with pytest.raises(InsufficientBalanceError, match="Nothing was charged"):
            await client.submit("a reef")

    assert 1 == emulator.submits


async def test_status_is_one_free_call(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))

    async with in_process(emulator) as client:
        report = await client.status(request_id)

    assert Status.IN_PROGRESS == report.status
    assert {request_id: 1} == emulator.polls


async def test_status_tries_a_failed_call_again_and_then_raises(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator) as client:
        emulator.fault("status", Fault.error(502), times=3)
        report = await client.status(request_id)
        emulator.fault("status", Fault.html(200), times=4)
        with pytest.raises(InvalidResponseError):
            await client.status(request_id)
        with pytest.raises(BadRequestError):
            await client.status("no-such-job")

    assert Status.COMPLETED == report.status
    assert {request_id: 8, "no-such-job": 1} == emulator.polls


async def test_result_of_a_running_job_is_not_ready_and_not_billed(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))

    async with in_process(emulator) as client:
        with pytest.raises(NotReadyError, match="nothing was billed") as caught:
            await client.result(request_id)
        await asyncio.sleep(5)
        result = await client.result(request_id)

    assert "IN_PROGRESS" == caught.value.last_status
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


async def test_result_of_a_failed_job_is_its_failure(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="no"))

    async with in_process(emulator) as client:
        with pytest.raises(JobFailedError):
            await client.result(request_id)
        with pytest.raises(JobFailedError):
            await client.wait_for(request_id)

    assert {request_id: 1} == emulator.result_calls
    assert {} == emulator.billed


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_waiting_as_long_as_the_server_asks_is_no_failing(
    emulator: Emulator, status: int
) -> None:
    """Retry-After is longer than give_up_after."""
    request_id = emulator.add_job()
    emulator.fault("status", Fault.error(status, retry_after="600"))
    emulator.fault("status", Fault.error(502))

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id


async def test_pause_that_another_job_caused_is_no_failing(emulator: Emulator) -> None:
    failing, pausing = emulator.add_job(), emulator.add_job()
    emulator.fault("status", Fault.error(502), times=3, request_id=failing)
    emulator.fault("status", Fault.error(503, retry_after="600"), request_id=pausing)

    async with in_process(emulator) as client:
        results = await client.gather_results([failing, pausing])

    assert [failing, pausing] == [result.request_id for result in results]


async def test_waiter_whose_poll_is_cancelled_before_it_begins_is_told(
    emulator: Emulator,
) -> None:
    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        while not (polls := client._engine.tasks.others() - {waiting}):
            await asyncio.sleep(0)
        for poll in polls:
            poll.cancel()
        async with asyncio.timeout(60):
            with pytest.raises(ClientStateError, match="from outside"):
                await waiting
        assert "0 jobs" in repr(client)


async def test_new_waiter_joins_the_visit_that_the_last_one_left(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))
    emulator.fault("status", Fault.hang(3))

    async with in_process(emulator) as client:
        leaving = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        leaving.cancel()
        await asyncio.sleep(0.1)
        joining = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(0.1)
        jobs = repr(client)
        result = await joining

    assert "1 jobs" in jobs
    assert {request_id: 1} == emulator.billed
    assert request_id == result.request_id

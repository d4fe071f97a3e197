"""Money under attack: races, hangs and half-truths round the billed call."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from ledgers import Handle, forever, on
from support import KEY, in_process, in_virtual_time

from modelmax_async import (
    AsyncQueueClient,
    InvalidResponseError,
    JobFailedError,
    MemoryLedger,
    Result,
    ResultUncertainError,
)
from modelmax_async._api.paths import make_job
from modelmax_async._runtime import clock
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.emulator.inprocess import InProcessTransport
from modelmax_async.events import BilledCallArmed, Event
from modelmax_async.ledger import (
    Arm,
    Claim,
    Fail,
    Key,
    Look,
    Move,
    Release,
    Remember,
    Renew,
    Store,
    Uncertain,
)

pytestmark = [pytest.mark.anyio, in_virtual_time]
ORIGIN = "http://127.0.0.1:80"


async def left_uncertain(emulator: Emulator, ledger: MemoryLedger, **script: object) -> str:
    """A job whose billed call was processed, and whose answer never arrived."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), request_id=request_id)
    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
    return request_id


def pay(client: AsyncQueueClient, request_id: str) -> asyncio.Task[Result]:
    return asyncio.create_task(client.result(request_id, accept_second_charge=True))


def paid_body(request_id: str) -> bytes:
    return (
        b'{"request_id": "%s", "status": "COMPLETED", "data": [{"url": "/v"}]}'
        % request_id.encode()
    )


class SlowToConnect(InProcessTransport):
    """Takes its time before byte 0, as a TCP or TLS handshake does."""

    emits_httpcore_trace_events = True

    def __init__(self, app: object, seconds: float) -> None:
        super().__init__(app)  # type: ignore[arg-type]
        self.seconds = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.seconds)
        return await super().handle_async_request(request)


def over(transport: httpx.AsyncBaseTransport, **options: object) -> AsyncQueueClient:
    return AsyncQueueClient(
        model="veo-3",
        base_url="http://127.0.0.1",
        api_key=KEY,
        http_client=transport,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("method", ["accept", "refetch"])
async def test_decision_cancelled_while_it_is_armed_is_not_carried_out(
    emulator: Emulator, method: str
) -> None:
    """The wish is asked for before the ledger is; the ledger takes a second."""
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    arming = asyncio.Event()

    async def slow(_: Move) -> None:
        arming.set()
        await asyncio.sleep(1)

    options = {"on_uncertain": "refetch"} if method == "refetch" else {}
    handle = Handle(store, before=on(Arm, slow))
    async with in_process(emulator, ledger=handle, **options) as client:
        if method == "accept":
            decider = pay(client, request_id)
        else:
            decider = asyncio.create_task(client.wait_for(request_id))
        await arming.wait()
        decider.cancel()
        await asyncio.sleep(30)

    assert {request_id: 1} == emulator.result_calls


async def test_decision_cancelled_while_it_connects_is_not_carried_out(
    emulator: Emulator,
) -> None:
    """The first call of a client is armed before it connects, and nothing is asked after."""
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)

    async with over(SlowToConnect(emulator.app, 5), ledger=store) as client:
        decider = pay(client, request_id)
        await asyncio.sleep(1)
        decider.cancel()
        await asyncio.sleep(30)

    assert {request_id: 1} == emulator.result_calls


async def test_refetch_is_not_carried_out_for_one_who_only_watches(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    claiming = asyncio.Event()

    async def slow(_: Move) -> None:
        claiming.set()
        await asyncio.sleep(1)

    handle = Handle(store, after=on(Claim, slow))
    emulator.fault("status", Fault.hang(2), request_id=request_id)
    async with in_process(emulator, ledger=handle, on_uncertain="refetch") as client:
        watching = client.watch(request_id)
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(0)
        report = await anext(watching)  # suspended here: its consumer is busy
        await claiming.wait()
        waiting.cancel()
        await asyncio.sleep(30)
        await watching.aclose()

    assert "COMPLETED" == report.status
    assert {request_id: 1} == emulator.result_calls


async def test_job_reported_as_timed_out_is_not_fetched_later(emulator: Emulator) -> None:
    """An expired member of a batch stays subscribed as long as the consumer is busy."""
    request_id = emulator.add_job(script=JobScript(run_seconds=60))

    async with in_process(emulator) as client:
        stream = client.as_completed([request_id], timeout=5)
        outcome = await anext(stream)
        await asyncio.sleep(300)  # the consumer does something long
        calls = dict(emulator.result_calls)
        await stream.aclose()

    assert isinstance(outcome.error, TimeoutError)
    assert {} == calls


async def test_hook_that_blocks_does_not_put_byte_0_after_the_lease(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks run between the look at the clock and byte 0."""
    request_id = emulator.add_job()
    boottime = clock.boottime
    calls_at_release: list[int] = []

    def block(event: Event) -> None:
        if isinstance(event, BilledCallArmed) and not calls_at_release:
            monkeypatch.setattr(clock, "boottime", lambda: boottime() + 3600)

    async def note(_: Move) -> None:
        calls_at_release.append(emulator.result_calls.get(request_id, 0))

    handle = Handle(MemoryLedger(), before=on(Release, note))
    async with in_process(emulator, ledger=handle, hooks=[block]) as client:
        await client.wait_for(request_id)

    assert [0] == calls_at_release


async def test_connecting_does_not_put_byte_0_after_the_lease(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Armed before it connects, cut off from the ledger, and sent when others have paid."""
    monkeypatch.setattr(clock, "boottime", lambda: asyncio.get_running_loop().time())
    request_id = emulator.add_job()
    store = MemoryLedger()

    async def fail(_: Move) -> None:
        raise OSError("the ledger is out of reach")

    cut_off = Handle(store, before=on(Renew, fail))
    async with (
        over(SlowToConnect(emulator.app, 25), ledger=cut_off) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        second = await pay(other, request_id)
        (ended,) = await asyncio.gather(first, return_exceptions=True)

    assert second == ended
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize(
    ("left", "expected"),
    [("uncertain", ResultUncertainError), ("stored", Result), ("nothing", JobFailedError)],
)
async def test_failed_heard_by_a_watchers_poll_is_checked_against_the_ledger(
    emulator: Emulator, left: str, expected: type
) -> None:
    """Who joins a watcher's poll is told "was not billed", unread what the ledger holds."""
    store = MemoryLedger()
    request_id = emulator.add_job(script=JobScript(outcome="FAILED"))
    key, job = Key(ORIGIN, request_id), make_job("veo-3", request_id)
    await store.apply(key, Claim(job, "me", "a1", 10.0))
    await store.apply(key, Arm("a1", 10.0))
    if left == "nothing":
        await store.apply(key, Release("a1"))
    elif left == "stored":
        await store.apply(key, Store(job, "a1", paid_body(request_id)))
    else:
        await store.apply(key, Uncertain("a1", "sent", "it broke off"))
    emulator.fault("status", Fault.hang(2), request_id=request_id)

    async with in_process(emulator, ledger=store) as client:
        watching = client.watch(request_id)
        looking = asyncio.create_task(anext(watching))
        await asyncio.sleep(1)
        (ended,) = await asyncio.gather(client.wait_for(request_id), return_exceptions=True)
        await looking
        await watching.aclose()

    assert expected is type(ended)


@pytest.mark.parametrize("end", ["failed", "broken"])
async def test_answer_that_was_stored_meanwhile_beats_what_this_call_came_to(
    emulator: Emulator, end: str
) -> None:
    """The paused owner of the first call stores its readable answer during the second one."""
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    key, job = Key(ORIGIN, request_id), make_job("veo-3", request_id)
    entry = await store.apply(key, Look(job))
    assert entry is not None
    first = entry.entry.attempt
    assert first is not None
    fault = (
        Fault.raw(200, b'{"request_id": "%s", "status": "FAILED"}' % request_id.encode())
        if end == "failed"
        else Fault.drop_after()
    )
    emulator.fault("result", fault, request_id=request_id)

    async def wake(_: Move) -> None:
        await store.apply(key, Store(job, first, paid_body(request_id)))

    handle = Handle(store, before=on(Fail if end == "failed" else Uncertain, wake))
    async with in_process(emulator, ledger=handle) as client:
        (ended,) = await asyncio.gather(pay(client, request_id), return_exceptions=True)
        stored = await client.result(request_id)

    assert stored == ended


async def test_failed_after_a_decision_does_not_say_not_billed_if_the_ledger_fails(
    emulator: Emulator,
) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    body = b'{"request_id": "%s", "status": "FAILED"}' % request_id.encode()
    emulator.fault("result", Fault.raw(200, body), request_id=request_id)

    async def fail(_: Move) -> None:
        raise OSError("the ledger is out of reach")

    async with in_process(emulator, ledger=Handle(store, before=on(Fail, fail))) as client:
        (ended,) = await asyncio.gather(pay(client, request_id), return_exceptions=True)

    assert not isinstance(ended, JobFailedError)


async def test_unreadable_answer_is_not_said_to_be_in_a_ledger_that_failed(
    emulator: Emulator,
) -> None:
    async def fail(_: Move) -> None:
        raise OSError("the disk is full")

    emulator.fault("result", Fault.garble())
    handle = Handle(MemoryLedger(), before=on(Store, fail))
    async with in_process(emulator, ledger=handle) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.result(emulator.add_job())

    assert "and in the ledger" not in str(caught.value)


class HangsOnce(Handle):
    """Never answers the first move of a kind; all others are answered at once."""

    def __init__(self, store: MemoryLedger, kind: type[Move]) -> None:
        self.hung = False

        async def act(_: Move) -> None:
            if not self.hung:
                self.hung = True
                await forever()

        super().__init__(store, before=on(kind, act))


@pytest.mark.parametrize("kind", [Uncertain, Release, Fail])
async def test_move_that_hangs_after_the_call_does_not_hold_its_caller_for_ever(
    emulator: Emulator, kind: type[Move]
) -> None:
    request_id = emulator.add_job()
    fault = {
        Uncertain: Fault.drop_after(),
        Release: Fault.error(402, type="insufficient_balance"),
        Fail: Fault.raw(200, b'{"request_id": "%s", "status": "FAILED"}' % request_id.encode()),
    }[kind]
    emulator.fault("result", fault)

    async with in_process(emulator, ledger=HangsOnce(MemoryLedger(), kind)) as client:
        asking = asyncio.create_task(client.result(request_id))
        done, _ = await asyncio.wait([asking], timeout=3600)
        asking.cancel()

    assert {asking} == done


@pytest.mark.parametrize("kind", [Uncertain, Store])
async def test_move_that_hangs_after_the_call_does_not_lock_the_job_for_others(
    emulator: Emulator, kind: type[Move]
) -> None:
    """Its lease is renewed for ever: nobody can claim it, decide about it, or list it."""
    request_id = emulator.add_job()
    if kind is Uncertain:
        emulator.fault("result", Fault.drop_after())
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=HangsOnce(store, kind)) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(60)
        second = asyncio.create_task(other.result(request_id))
        done, _ = await asyncio.wait([second], timeout=3600)
        listed = await other.unresolved()
        first.cancel()
        second.cancel()

    assert done or listed


async def test_renewal_that_hung_once_does_not_stop_all_later_ones(emulator: Emulator) -> None:
    """A live owner is taken for gone, and its call under way is raced."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(29), request_id=request_id)
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=HangsOnce(store, Renew)) as one,
        in_process(emulator, ledger=store, on_uncertain="refetch") as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        results = await asyncio.gather(first, other.wait_for(request_id))

    assert results[0] == results[1]
    assert {request_id: 1} == emulator.billed


async def test_submit_is_answered_though_the_ledger_hangs(emulator: Emulator) -> None:
    """The id of the job is known by then, and would be lost with the caller's patience."""
    async with in_process(emulator, ledger=HangsOnce(MemoryLedger(), Remember)) as client:
        submitting = asyncio.create_task(client.submit("a reef"))
        done, _ = await asyncio.wait([submitting], timeout=3600)
        submitting.cancel()

    assert {submitting} == done


async def test_watching_is_not_ended_by_the_money_questions_of_one_who_waits(
    emulator: Emulator,
) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)

    async with in_process(emulator, ledger=store) as client:
        watching = client.watch(request_id)
        looking = asyncio.create_task(anext(watching))
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.gather(waiting, return_exceptions=True)
        (ended,) = await asyncio.gather(looking, return_exceptions=True)
        await watching.aclose()

    assert not isinstance(ended, Exception)


@pytest.mark.parametrize("word", [b"IN_PROGRESS", b"FAILED"])
async def test_answer_that_names_something_else_proves_nothing(
    emulator: Emulator, word: bytes
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.raw(200, b'{"request_id": 7, "status": "%s"}' % word))
    store = MemoryLedger()

    async with in_process(emulator, ledger=store) as client:
        await asyncio.gather(client.wait_for(request_id), return_exceptions=True)
        done = await store.apply(Key(ORIGIN, request_id), Look(make_job("veo-3", request_id)))

    assert done is not None
    assert done.entry.state not in {"known", "failed"}
    assert {request_id: 1} == emulator.billed


async def test_void_decision_does_not_stand_in_for_one_whose_coroutine_ended(
    emulator: Emulator,
) -> None:
    """The first was made about a call that was renewed after it; the second is cancelled."""
    request_id = emulator.add_job()
    store = MemoryLedger()
    key, job = Key(ORIGIN, request_id), make_job("veo-3", request_id)
    await store.apply(key, Claim(job, "gone", "a1", 10.0))
    await store.apply(key, Arm("a1", 10.0))
    claimed = asyncio.Event()

    async def linger(_: Move) -> None:
        done = await store.apply(key, Look(job))
        assert done is not None
        if done.entry.owner not in {None, "gone"}:
            claimed.set()
        await asyncio.sleep(1)

    async with in_process(emulator, ledger=Handle(store, after=on(Claim, linger))) as client:
        first = pay(client, request_id)
        await asyncio.sleep(0.5)
        await store.apply(key, Renew("a1", 10.0))
        second = pay(client, request_id)
        await claimed.wait()
        second.cancel()
        (ended,) = await asyncio.gather(first, return_exceptions=True)

    assert isinstance(ended, ResultUncertainError)
    assert {} == emulator.result_calls


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b"<html>debug: Authorization: Bearer sk-emulator</html>", False),
        (b'{"request_id": "sk-emulator", "status": "COMPLETED", "data": []}', True),
    ],
    ids=["page", "name"],
)
async def test_unreadable_answer_that_quotes_the_key_does_not_show_it(
    emulator: Emulator, body: bytes, *, result: bool
) -> None:
    """What may be a paid result stays as it came; no message shows it."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.raw(200, body))

    async with in_process(emulator) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.result(request_id)

    assert KEY not in str(caught.value)
    assert result is (KEY.encode() in caught.value.body)


async def test_close_that_begins_while_a_call_is_armed_starts_no_call(
    emulator: Emulator,
) -> None:
    """`Settler.drain`: let billed calls end, start none."""
    request_id = emulator.add_job()
    arming = asyncio.Event()

    async def slow(_: Move) -> None:
        arming.set()
        await asyncio.sleep(1)

    async with in_process(
        emulator, ledger=Handle(MemoryLedger(), before=on(Arm, slow))
    ) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await arming.wait()
        await client.aclose()
        await asyncio.gather(waiting, return_exceptions=True)

    assert {} == emulator.result_calls


async def test_answer_with_videos_and_a_stale_status_word_is_kept(emulator: Emulator) -> None:
    """It is thrown away as "not billed", though it names what was billed."""
    request_id = emulator.add_job("reef")
    body = (
        b'{"request_id": "reef", "status": "IN_PROGRESS", '
        b'"data": [{"url": "/v"}], "usage": {"video_seconds": 8}}'
    )
    emulator.fault("result", Fault.raw(200, body))

    async with in_process(emulator) as client:
        await asyncio.gather(client.wait_for(request_id), return_exceptions=True)

    assert {request_id: 1} == emulator.billed


class BrokenLater:
    """A policy that passes the client's check, and breaks at its fortieth delay."""

    def __init__(self) -> None:
        self.asked = 0

    def delay(self, attempt: int, elapsed: float, random: float) -> float:
        self.asked += 1
        if self.asked == 40:
            raise ValueError("no delay")
        return 1.0


async def test_batch_that_could_not_begin_has_nothing_fetched(emulator: Emulator) -> None:
    jobs = [emulator.add_job() for _ in range(50)]

    async with in_process(emulator, poll=BrokenLater()) as client:
        with pytest.raises(ValueError, match="no delay"):
            await client.gather_results(jobs)
        await asyncio.sleep(60)
        left = repr(client)

    assert {} == emulator.billed
    assert "<Poller: 0 jobs" in left


async def test_watching_a_job_whose_first_delay_broke_is_not_for_ever(
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

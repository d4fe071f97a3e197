"""What is billed, on a real socket, counted at the emulator's own ledger."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from support import IMPATIENT, in_process, in_virtual_time, on_socket

from modelmax_async import (
    APIError,
    BadRequestError,
    InsufficientBalanceError,
    InvalidResponseError,
    Job,
    LedgerError,
    MemoryLedger,
    NotReadyError,
    Result,
    ResultUncertainError,
    RetryPolicy,
    SQLiteLedger,
    SubmitUncertainError,
    TransportError,
)
from modelmax_async._http.connections import Connections
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import (
    BilledCallArmed,
    ClaimReleased,
    Event,
    LedgerFailed,
    ResultStored,
    ResultUncertain,
)
from modelmax_async.ledger import (
    Arm,
    Claim,
    Key,
    Look,
    Move,
    Release,
    Remember,
    Step,
    Store,
    Uncertain,
)

pytestmark = pytest.mark.anyio


async def test_thousand_awaiters_are_one_billed_call(emulator: Emulator, url: str) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=0.2))

    async with on_socket(url) as client:
        results = await asyncio.gather(*(client.wait_for(request_id) for _ in range(1000)))

    assert [results[0]] * 1000 == results
    assert {request_id: 1} == emulator.billed


async def test_waiting_asking_and_gathering_share_one_billed_call(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()

    async with on_socket(url) as client:
        result, same, (gathered,) = await asyncio.gather(
            client.wait_for(request_id),
            client.result(request_id),
            client.gather_results([request_id]),
        )

    assert result == same == gathered
    assert {request_id: 1} == emulator.result_calls


UNCERTAIN: dict[str, tuple[Fault, str]] = {
    "dropped before": (Fault.drop_before(), "sent"),
    "dropped after": (Fault.drop_after(), "sent"),
    "hang": (Fault.hang(5), "sent"),
    "truncated": (Fault.truncate(20), "answered"),
    "500": (Fault.error(500, type="internal_error"), "answered"),
    "504": (Fault.error(504), "answered"),
    "HTML 502": (Fault.html(502), "answered"),
    "HTML 401": (Fault.html(401), "answered"),
    "302": (Fault.redirect("/v1/elsewhere"), "answered"),
    "418": (Fault.error(418), "answered"),
    "empty 204": (Fault.raw(204), "answered"),
}


@pytest.mark.parametrize(("fault", "phase"), UNCERTAIN.values(), ids=UNCERTAIN.keys())
async def test_unknown_outcome_is_one_call_and_stays_recorded(
    emulator: Emulator, url: str, fault: Fault, phase: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", fault, request_id=request_id)
    ledger = MemoryLedger()

    async with on_socket(url, ledger=ledger, timeout=0.5) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)
        for ask in (client.wait_for, client.result):
            with pytest.raises(ResultUncertainError):
                await ask(request_id)
        (entry,) = await client.unresolved()
    async with on_socket(url, ledger=ledger) as another:
        with pytest.raises(ResultUncertainError):
            await another.wait_for(request_id)

    assert phase == caught.value.phase == entry.phase
    assert request_id == caught.value.job.request_id == entry.job.request_id
    assert {request_id: 1} == emulator.result_calls


@pytest.mark.parametrize("fault", [Fault.drop_after(), Fault.error(500)])
async def test_second_charge_needs_a_word_and_then_settles(
    emulator: Emulator, url: str, fault: Fault
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", fault)

    async with on_socket(url) as client:
        with pytest.raises(ResultUncertainError, match="accept_second_charge=True"):
            await client.wait_for(request_id)
        result = await client.result(request_id, accept_second_charge=True)
        again = await client.result(request_id, accept_second_charge=True)
        waited = await client.wait_for(request_id)
        open_questions = await client.unresolved()

    assert result == again == waited
    assert [] == open_questions
    assert {request_id: 2} == emulator.result_calls


async def test_accepting_a_second_charge_of_a_call_under_way_waits_for_it(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(0.3))

    async with on_socket(url) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        while not emulator.billed_total:
            await asyncio.sleep(0.01)
        result = await client.result(request_id, accept_second_charge=True)

    assert await waiting == result
    assert {request_id: 1} == emulator.result_calls


async def test_accepted_call_that_proves_free_leaves_the_question_open(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())
    emulator.fault("result", Fault.error(402, type="insufficient_balance"))

    async with on_socket(url) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        with pytest.raises(InsufficientBalanceError):
            await client.result(request_id, accept_second_charge=True)
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    assert {request_id: 2} == emulator.result_calls


@pytest.mark.parametrize("method", ["wait_for", "result"])
async def test_refetch_pays_once_more_and_no_oftener(
    emulator: Emulator, url: str, method: str
) -> None:
    lucky, unlucky = emulator.add_job(), emulator.add_job()
    emulator.fault("result", Fault.drop_after(), request_id=lucky)
    emulator.fault("result", Fault.drop_after(), times=None, request_id=unlucky)

    async with on_socket(url, on_uncertain="refetch") as client:
        ask = getattr(client, method)
        result = await ask(lucky)
        with pytest.raises(ResultUncertainError):
            await ask(unlucky)

    assert lucky == result.request_id
    assert {lucky: 2, unlucky: 2} == emulator.result_calls


async def test_refetch_settles_what_an_earlier_process_left(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())
    async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    ledger = SQLiteLedger(tmp_path / "runs.db")
    async with on_socket(url, ledger=ledger, on_uncertain="refetch") as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.billed


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_enveloped_retryable_errors_are_released_and_succeed_later(
    emulator: Emulator, url: str, status: int
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.error(status), times=2)
    seen: list[Event] = []

    async with on_socket(url, hooks=[seen.append]) as client:
        result = await client.wait_for(request_id)

    released = [event for event in seen if isinstance(event, ClaimReleased)]
    assert request_id == result.request_id
    assert 2 == len(released)
    assert {request_id: 3} == emulator.result_calls
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
async def test_enveloped_final_errors_are_raised_and_the_job_is_free(
    emulator: Emulator, url: str, status: int
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.error(status))

    async with on_socket(url) as client:
        with pytest.raises(APIError) as caught:
            await client.wait_for(request_id)
        result = await client.wait_for(request_id)

    assert status == caught.value.status_code
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


async def test_result_tries_again_what_cost_nothing_and_then_raises(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()

    async with on_socket(url) as client:
        emulator.fault("result", Fault.error(502), times=3)
        result = await client.result(request_id)
        other = emulator.add_job()
        emulator.fault("result", Fault.error(503), times=None, request_id=other)
        with pytest.raises(APIError):
            await client.result(other)

    assert request_id == result.request_id
    assert {request_id: 4, other: 4} == emulator.result_calls


async def test_completed_without_videos_is_stored_and_not_refetched(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job(script=JobScript(data=[]))
    for _ in range(2):
        async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
            with pytest.raises(InvalidResponseError, match="lists no videos") as caught:
                await client.wait_for(request_id)

    assert b'"COMPLETED"' in caught.value.body
    assert {request_id: 1} == emulator.result_calls


async def test_unreadable_paid_answer_is_kept_and_fetched_again_only_on_request(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.garble(b"\x80 not json"))

    async with on_socket(url) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.wait_for(request_id)
        with pytest.raises(InvalidResponseError):
            await client.result(request_id)
        result = await client.result(request_id, accept_second_charge=True)

    assert b"\x80 not json" == caught.value.body
    assert request_id == result.request_id
    assert {request_id: 2} == emulator.billed


async def test_compressed_answer_is_stored_readable(emulator: Emulator, url: str) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.gzip())

    async with on_socket(url) as client:
        result = await client.wait_for(request_id)
        again = await client.wait_for(request_id)

    assert result == again
    assert {request_id: 1} == emulator.billed


async def test_oversized_paid_answer_is_kept_on_disk(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * 1024 * 1024))

    async with on_socket(url) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)

    (kept,) = tmp_path.iterdir()
    assert str(kept) in str(caught.value)
    assert 9 * 1024 * 1024 == kept.stat().st_size
    assert 0o600 == kept.stat().st_mode & 0o777


async def test_oversized_paid_answer_that_no_disk_takes_is_read_as_far_as_memory(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        os.truncate(next(tmp_path.iterdir()), 1000)
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.fsync", full)
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * 1024 * 1024))
    async with on_socket(url) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert [] == list(tmp_path.iterdir())
    assert {request_id: 1} == emulator.result_calls


async def test_oversized_paid_answer_is_kept_where_most_of_it_is(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "not synced")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.fsync", refuse)
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * 1024 * 1024))

    async with on_socket(url) as client:
        with pytest.raises(ResultUncertainError, match="what came of it is"):
            await client.wait_for(request_id)

    (kept,) = tmp_path.iterdir()
    assert 9 * 1024 * 1024 == kept.stat().st_size


async def test_answer_without_end_is_kept_as_far_as_the_bound(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("modelmax_async._http.body.MAX_KEPT", 9 * 1024 * 1024)
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(30 * 1024 * 1024))

    async with on_socket(url) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    (kept,) = tmp_path.iterdir()
    assert 9 * 1024 * 1024 < kept.stat().st_size < 11 * 1024 * 1024


@contextlib.asynccontextmanager
async def _refusing(status_then_close: bytes) -> Any:
    """A server that answers each connection with these bytes and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(status_then_close)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


async def test_body_cut_off_without_a_length_is_kept_as_paid() -> None:
    answer = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"status": "COMPL'

    async with _refusing(answer) as url, on_socket(url) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.result("x")
        with pytest.raises(InvalidResponseError):
            await client.result("x")

    assert b'{"status": "COMPL' == caught.value.body


class Failing(MemoryLedger):
    """A ledger that fails on one kind of move, for as long as it is told to."""

    def __init__(self, *kinds: type[Move], error: Exception | None = None) -> None:
        super().__init__()
        self.kinds = kinds
        self.error = error or LedgerError("disk on fire")

    async def apply(self, key: Key, move: Move) -> Step | None:
        if isinstance(move, self.kinds):
            raise self.error
        return await super().apply(key, move)


@pytest.mark.parametrize("kind", [Look, Claim, Arm])
async def test_ledger_not_writable_before_the_call_means_no_billed_call(
    emulator: Emulator, url: str, kind: type[Move]
) -> None:
    request_id = emulator.add_job()
    ledger = Failing(kind)

    async with on_socket(url, ledger=ledger) as client:
        with pytest.raises(LedgerError, match="disk on fire"):
            await client.wait_for(request_id)
        assert {} == emulator.result_calls

        ledger.kinds = ()
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("error", [LedgerError("disk on fire"), OSError("a bug of theirs")])
async def test_ledger_failing_after_the_answer_returns_it_and_reports(
    emulator: Emulator, url: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    request_id = emulator.add_job()
    ledger = Failing(Store, error=error)
    seen: list[Event] = []

    async with on_socket(url, ledger=ledger, hooks=[seen.append]) as client:
        result = await client.wait_for(request_id)
        again = await client.wait_for(request_id)
        asked = await client.result(request_id)
        ledger.kinds = ()

    async with on_socket(url, ledger=ledger) as another:
        stored = await another.wait_for(request_id)

    assert result == again == asked == stored
    assert 1 == sum(isinstance(event, LedgerFailed) for event in seen)
    assert "a paid answer is not stored yet" in caplog.text
    assert {request_id: 1} == emulator.result_calls


@in_virtual_time
async def test_paid_answer_is_stored_as_soon_as_the_ledger_recovers(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    ledger = Failing(Store)

    async with in_process(emulator, ledger=ledger) as client:
        await client.wait_for(request_id)
        await asyncio.sleep(60)
        ledger.kinds = ()
        await asyncio.sleep(5)
        stored = await ledger.entries("http://127.0.0.1:80", {"stored"})

    assert [request_id] == [entry.job.request_id for entry in stored]


@pytest.mark.parametrize("kind", [Uncertain, Release])
async def test_ledger_failing_to_record_an_outcome_never_frees_the_job(
    emulator: Emulator, url: str, kind: type[Move], caplog: pytest.LogCaptureFixture
) -> None:
    request_id = emulator.add_job()
    fault = Fault.drop_after() if kind is Uncertain else Fault.error(400)
    emulator.fault("result", fault)
    ledger = Failing(kind)

    async with on_socket(url, ledger=ledger) as client:
        with pytest.raises((ResultUncertainError, BadRequestError)):
            await client.wait_for(request_id)
        (entry,) = [e for e in ledger._entries.values() if e.job.request_id == request_id]

    assert "armed" == entry.state
    assert "disk on fire" in caplog.text
    assert {request_id: 1} == emulator.result_calls


async def test_claim_that_was_lost_before_byte_zero_is_made_again(
    emulator: Emulator, url: str
) -> None:
    class Late(MemoryLedger):
        """The first arming comes too late: its lease has run out."""

        refused = False

        async def apply(self, key: Key, move: Move) -> Step | None:
            done = await super().apply(key, move)
            if isinstance(move, Claim) and not self.refused and done is not None:
                self.refused = True
                self._entries[key] = attrs.evolve(done.entry, lease_until=0.0)
            return done

    request_id = emulator.add_job()

    async with on_socket(url, ledger=Late()) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


@pytest.mark.parametrize("kind", [Claim, Arm])
async def test_ledger_that_loses_its_entry_stops_the_call(
    emulator: Emulator, url: str, kind: type[Move]
) -> None:
    class Losing(MemoryLedger):
        async def apply(self, key: Key, move: Move) -> Step | None:
            return None if isinstance(move, kind) else await super().apply(key, move)

    request_id = emulator.add_job()

    async with on_socket(url, ledger=Losing()) as client:
        with pytest.raises(LedgerError, match="lost an entry"):
            await client.wait_for(request_id)

    assert {} == emulator.result_calls


async def test_ledger_that_does_not_keep_an_answer_is_reported(
    emulator: Emulator, url: str
) -> None:
    class Losing(MemoryLedger):
        async def apply(self, key: Key, move: Move) -> Step | None:
            return None if isinstance(move, Store) else await super().apply(key, move)

    seen: list[Event] = []
    async with on_socket(url, ledger=Losing(), hooks=[seen.append]) as client:
        request_id = emulator.add_job()
        result = await client.wait_for(request_id)

    causes = [event.cause for event in seen if isinstance(event, LedgerFailed)]
    assert request_id == result.request_id
    assert "did not keep" in causes[0]
    assert "it is lost" in causes[-1]


async def test_submit_is_recorded_right_after_the_answer(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
        job = await client.submit("a reef")

    async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
        pending = await client.pending()
        results = await client.gather_results(pending)
        left = await client.pending()

    assert [job] == pending
    assert [job.request_id] == [result.request_id for result in results]
    assert [] == left


async def test_submit_returns_its_job_though_the_ledger_fails(
    emulator: Emulator, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with on_socket(url, ledger=Failing(Remember)) as client:
        job = await client.submit("a reef")

    assert job.request_id in emulator.jobs
    assert "disk on fire" in caplog.text


SURE = [Fault.error(429), Fault.error(502), Fault.error(503)]


@pytest.mark.parametrize("fault", SURE)
async def test_submit_that_created_no_job_is_sent_again(
    emulator: Emulator, url: str, fault: Fault
) -> None:
    emulator.fault("submit", fault, times=2)

    async with on_socket(url) as client:
        job = await client.submit("a reef")

    assert [job.request_id] == list(emulator.jobs)
    assert 3 == emulator.submits


async def test_submit_gives_up_with_the_servers_error(emulator: Emulator, url: str) -> None:
    emulator.fault("submit", Fault.error(502, message="no provider"), times=None)

    async with on_socket(url, retry=RetryPolicy(initial=0.01, attempts=3)) as client:
        with pytest.raises(APIError, match="no provider"):
            await client.submit("a reef")

    assert 3 == emulator.submits


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
@pytest.mark.parametrize("envelope", [True, False])
async def test_refused_submit_raises_its_own_error_at_once(
    emulator: Emulator, url: str, status: int, envelope: bool
) -> None:
    emulator.fault("submit", Fault.error(status, envelope=envelope))

    async with on_socket(url) as client:
        with pytest.raises(APIError) as caught:
            await client.submit("a reef")

    assert status == caught.value.status_code
    assert 1 == emulator.submits


UNSURE = [
    Fault.drop_before(),
    Fault.drop_after(),
    Fault.hang(5),
    Fault.truncate(10),
    Fault.garble(),
    Fault.raw(202, b'{"status": "IN_QUEUE"}'),
    Fault.raw(202, b'{"request_id": ".."}'),
    Fault.error(500),
    Fault.error(504),
    Fault.html(502),
    Fault.html(429),
    Fault.redirect("/elsewhere"),
]


@pytest.mark.parametrize("fault", UNSURE, ids=lambda fault: fault.name)
async def test_submit_of_unknown_outcome_is_not_sent_again(
    emulator: Emulator, url: str, fault: Fault
) -> None:
    emulator.fault("submit", fault)

    async with on_socket(url, timeout=0.5) as client:
        with pytest.raises(SubmitUncertainError, match="never billed") as caught:
            await client.submit("a reef")

    assert caught.value.__cause__ is not None
    assert 1 == emulator.submits


async def test_submit_retries_a_connection_that_was_refused() -> None:
    async with on_socket("http://127.0.0.1:9") as client:
        with pytest.raises(TransportError) as caught:
            await client.submit("a reef")

    assert not caught.value.maybe_sent


async def test_billed_call_never_made_is_released_and_retried(
    emulator: Emulator, tmp_path: Path
) -> None:
    """The server goes away between status and result, and comes back."""
    request_id = emulator.add_job()
    seen: list[Event] = []

    async with contextlib.AsyncExitStack() as stack:
        client: Any = None

        def go_away(event: Event) -> None:
            seen.append(event)

        server = contextlib.AsyncExitStack()
        url = await server.enter_async_context(emulator.serve())
        port = int(url.rsplit(":", 1)[1])
        client = await stack.enter_async_context(on_socket(url, hooks=[go_away]))
        await client.status(request_id)
        await server.aclose()
        asking = asyncio.create_task(client.result(request_id))
        with pytest.raises(TransportError) as caught:
            await asking
        await stack.enter_async_context(emulator.serve(port=port))
        result = await client.result(request_id)

    assert not caught.value.maybe_sent
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls
    assert [BilledCallArmed, ResultStored] == [
        type(e) for e in seen if isinstance(e, BilledCallArmed | ResultStored | ResultUncertain)
    ]


async def test_billed_call_has_a_fresh_connection_of_its_own(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    seen: list[str] = []

    async with on_socket(url, max_in_flight=1) as client:
        await client.status(request_id)
        connections = client._engine.http._routes.client._transport
        assert isinstance(connections, Connections)
        opened = connections._opener

        def watch_open(limits: httpx.Limits) -> httpx.AsyncBaseTransport:
            seen.append(f"keepalive {limits.max_keepalive_connections}")
            return opened(limits)

        connections._opener = watch_open
        await client.result(request_id)

    assert ["keepalive 0"] == seen


class _Retrying(httpx.AsyncBaseTransport):
    """A transport of a caller's that does what retry libraries do to a GET."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(3):
            with contextlib.suppress(httpx.TransportError):
                return await self.inner.handle_async_request(request)
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_retrying_transport_of_the_caller_cannot_bill_twice(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), times=None)

    async with (
        httpx.AsyncClient(transport=_Retrying()) as http_client,
        on_socket(url, http_client=http_client, retry=IMPATIENT) as client,
    ):
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    assert {request_id: 1} == emulator.billed


async def _answer(request: httpx.Request, error: Exception | None) -> httpx.Response:
    if error is not None:
        raise error
    return httpx.Response(200, json={"status": "IN_PROGRESS"})


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.PoolTimeout("full"), False),
        (httpx.ReadError("broken"), True),
        (httpx.ReadTimeout("slow"), True),
        (httpx.WriteError("broken"), True),
        (httpx.RemoteProtocolError("odd"), True),
        (RuntimeError("a transport's own"), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_foreign_transport_without_events_counts_as_sent_but_for_connect_errors(
    error: Exception, sent: bool
) -> None:
    transport = httpx.MockTransport(lambda request: _answer(request, error))
    async with (
        httpx.AsyncClient(transport=transport) as http_client,
        on_socket("http://127.0.0.1", http_client=http_client) as client,
    ):
        with pytest.raises(ResultUncertainError if sent else TransportError):
            await client.result("x")
        states = [entry.state for entry in await client.unresolved()]

    assert (["uncertain"] if sent else []) == states


class _Odd(httpx.RequestError):
    """An error of a foreign transport that cannot be made from a text, nor be put into one."""

    def __init__(self, code: int, *, request: httpx.Request) -> None:
        super().__init__("odd", request=request)
        self.code = code

    def __str__(self) -> str:
        raise ValueError(self.code)


async def test_error_that_cannot_be_put_into_words_does_not_free_the_job() -> None:
    calls: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        raise _Odd(5, request=request)

    async with (
        httpx.MockTransport(answer) as transport,
        on_socket("http://127.0.0.1", http_client=transport) as client,
    ):
        for _ in range(2):
            with pytest.raises(ResultUncertainError):
                await client.result("x")

    assert 1 == len(calls)


async def test_second_try_without_events_is_not_taken_for_the_first(
    emulator: Emulator, url: str
) -> None:
    """A caller's failover: the first try is traced and refused, the second is not traced."""

    class Failover(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            there = httpx.Request("GET", "http://127.0.0.1:9", extensions=request.extensions)
            with contextlib.suppress(httpx.ConnectError):
                await super().handle_async_request(there)
            plain = httpx.Request("GET", request.url, headers=request.headers)
            return await super().handle_async_request(plain)

    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with Failover() as transport, on_socket(url, http_client=transport) as client:
        with pytest.raises(ResultUncertainError):
            await client.result(request_id)

    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "refetched"])
async def test_leave_to_pay_again_is_shared_by_all_who_give_it(
    emulator: Emulator, url: str, accept: bool
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), times=None)
    policy: Any = "raise" if accept else "refetch"

    async with on_socket(url, on_uncertain=policy) as client:
        if accept:
            with pytest.raises(ResultUncertainError):
                await client.wait_for(request_id)
        asked = (client.result(request_id, accept_second_charge=accept) for _ in range(5))
        ended = await asyncio.gather(*asked, return_exceptions=True)

    assert [ResultUncertainError] * 5 == [type(end) for end in ended]
    assert {request_id: 2} == emulator.billed


async def test_body_read_by_a_hook_of_the_callers_client_is_not_lost(
    emulator: Emulator, url: str
) -> None:
    async def read(response: httpx.Response) -> None:
        await response.aread()

    request_id = emulator.add_job()
    emulator.fault("result", Fault.gzip())

    async with (
        httpx.AsyncClient(event_hooks={"response": [read]}) as http_client,
        on_socket(url, http_client=http_client) as client,
    ):
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


async def test_answer_whose_connection_ends_badly_is_not_lost() -> None:
    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b'{"status": "COMPLETED", "data": [{"url": "/v"}]}'

        async def aclose(self) -> None:
            raise httpx.CloseError("broken")

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Stream())

    async with (
        httpx.MockTransport(answer) as transport,
        on_socket("http://127.0.0.1", http_client=transport) as client,
    ):
        result = await client.result("x")

    assert "x" == result.request_id


async def test_closed_http_client_is_told_before_anything_is_armed(emulator: Emulator) -> None:
    http_client = httpx.AsyncClient(transport=emulator.transport())
    await http_client.aclose()

    async with on_socket("http://127.0.0.1", http_client=http_client) as client:
        with pytest.raises(TransportError, match="is closed") as caught:
            await client.result("x")

    assert not caught.value.maybe_sent


async def test_no_room_for_an_oversized_answer_keeps_what_there_is(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * 1024 * 1024))

    async with on_socket(url) as client:
        result = await client.wait_for(request_id)  # its padding is what was cut off

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


async def test_paid_answer_is_stored_though_closing_cut_its_first_try(
    emulator: Emulator, url: str
) -> None:
    class Slow(MemoryLedger):
        tries = 0

        async def apply(self, key: Key, move: Move) -> Step | None:
            if isinstance(move, Store):
                self.tries += 1
                if self.tries == 1:
                    await asyncio.sleep(60)
            return await super().apply(key, move)

    request_id = emulator.add_job()
    ledger = Slow()
    client = on_socket(url, ledger=ledger, timeout=0.3)
    waiting = asyncio.create_task(client.wait_for(request_id))
    async with asyncio.timeout(5):
        while not ledger.tries:
            await asyncio.sleep(0.01)

    await client.aclose()
    await asyncio.gather(waiting, return_exceptions=True)

    (entry,) = ledger._entries.values()
    assert "stored" == entry.state


async def test_paid_answer_that_closing_could_not_store_is_reported(
    emulator: Emulator, url: str
) -> None:
    seen: list[Event] = []

    async with on_socket(url, ledger=Failing(Store), hooks=[seen.append]) as client:
        await client.wait_for(emulator.add_job())

    causes = [event.cause for event in seen if isinstance(event, LedgerFailed)]
    assert 2 == len(causes)
    assert "still not stored" in causes[-1]


async def test_broken_log_handler_costs_nothing(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise ValueError("a broken filter")

    monkeypatch.setattr(logging.getLogger("modelmax_async"), "filters", [refuse])
    request_id = emulator.add_job()

    async with on_socket(url, ledger=Failing(Store)) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id


async def test_foreign_transport_without_events_is_armed_before_it_is_called() -> None:
    ledger = MemoryLedger()
    states: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        states.extend(entry.state for entry in ledger._entries.values())
        return await _answer(request, None)

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http_client,
        on_socket("http://127.0.0.1", http_client=http_client, ledger=ledger) as client,
    ):
        with pytest.raises(NotReadyError):
            await client.result("x")

    assert ["armed"] == states


async def test_job_from_another_machine_is_waited_for_here(
    emulator: Emulator, url: str
) -> None:
    async with on_socket(url) as client:
        sent = (await client.submit("a reef")).to_dict()

    async with on_socket(url, model=None) as client:
        result = await client.wait_for(Job.from_dict(sent))

    assert isinstance(result, Result)
    assert Counter({result.request_id: 1}) == emulator.billed

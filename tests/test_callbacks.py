"""A callback or hook that raises does not affect the job."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest
from ledgers import Handle, on, refuse
from support import in_process, in_virtual_time

from modelmax_async import MemoryLedger, Result, StatusReport
from modelmax_async._runtime.hooks import call_safely
from modelmax_async.emulator import Emulator
from modelmax_async.ledger import Store

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_callback_that_raises_does_not_disturb_the_wait(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(report: StatusReport) -> None:
        raise RuntimeError(report.status)

    async with in_process(emulator, hooks=[lambda _: 1 / 0]) as client:
        result = await client.wait_for(emulator.add_job(), on_status=broken)

    assert isinstance(result, Result)
    assert "a callback failed on StatusReport" in caplog.text
    assert "a callback failed on ResultStored" in caplog.text


async def test_callback_that_raises_cancelled_error_does_not_disturb_the_waits(
    emulator: Emulator,
) -> None:
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


async def test_log_filter_that_raises_does_not_lose_the_result(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: logging.LogRecord) -> bool:
        raise ValueError("a broken filter")

    monkeypatch.setattr(logging.getLogger("modelmax_async"), "filters", [broken])
    request_id = emulator.add_job()
    ledger = Handle(MemoryLedger(), before=on(Store, refuse))

    async with in_process(emulator, ledger=ledger) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id

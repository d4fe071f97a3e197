"""A result that was delivered may be dropped from the ledger, and is not fetched again."""

from __future__ import annotations

import asyncio

import pytest
from ledgers import Seen, states
from support import in_process, in_virtual_time, until

from modelmax_async import MemoryLedger, ResultDroppedError
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_result_that_was_dropped_is_not_fetched_again(emulator: Emulator) -> None:
    jobs = [emulator.add_job() for _ in range(6)]
    ledger = MemoryLedger(max_entries=3)

    async with in_process(emulator, ledger=ledger) as client:
        for job in jobs:
            await client.wait_for(job)
        for ask in (client.wait_for, client.result):
            with pytest.raises(ResultDroppedError, match="accept_second_charge=True"):
                await ask(jobs[0])
        billed = dict(emulator.billed)
        again = await client.result(jobs[0], accept_second_charge=True)

    assert jobs[0] == again.request_id
    assert dict.fromkeys(jobs, 1) == billed
    assert {**dict.fromkeys(jobs, 1), jobs[0]: 2} == emulator.billed


async def test_result_counts_as_delivered_whichever_method_returns_it(
    emulator: Emulator,
) -> None:
    jobs = [emulator.add_job() for _ in range(6)]
    failing = emulator.add_job(script=JobScript(outcome="FAILED"))
    ledger = Seen()

    async with in_process(emulator, ledger=ledger) as client:
        await client.wait_for(jobs[0])
        await client.result(jobs[1])
        await client.gather_results([jobs[2], failing], return_exceptions=True)
        async for outcome in client.as_completed([jobs[3], failing]):
            del outcome
        outcomes = client.as_completed([jobs[4]])
        await anext(outcomes)
        await outcomes.aclose()
        emulator.fault("result", Fault.hang(1))
        waiting = asyncio.create_task(client.wait_for(jobs[5]))
        await until(lambda: emulator.billed[jobs[5]])
        waiting.cancel()
        await until(lambda: states(ledger).count("stored") == len(jobs))

    assert jobs[:5] == ledger.delivered_ids

"""Processes that die or stand still at each point of the billed call, and their restarts."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import on_socket

from modelmax_async import AsyncQueueClient, Result, ResultUncertainError, SQLiteLedger
from modelmax_async._billing import leases
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals"),
]
VICTIM = Path(__file__).with_name("victim.py")


async def start(url: str, path: Path, ids: list[str], **told: Any) -> Process:
    """Start a victim on the ledger at ``path``."""
    argument = json.dumps({"url": url, "path": str(path), "ids": ids} | told)
    return await asyncio.create_subprocess_exec(
        sys.executable, str(VICTIM), argument, stdout=PIPE, cwd=VICTIM.parent.parent
    )


async def struck(process: Process) -> None:
    assert process.stdout is not None
    assert b"struck\n" == await process.stdout.readline()


async def answer(process: Process) -> list[str]:
    out, _ = await process.communicate()
    names: list[str] = json.loads(out)
    return names


def restarted(url: str, path: Path) -> AsyncQueueClient:
    return on_socket(url, ledger=SQLiteLedger(path))


@pytest.mark.parametrize("strike", [("Claim", "before"), ("Claim", "after")])
async def test_killed_before_it_armed_leaves_the_job_free(
    emulator: Emulator, url: str, tmp_path: Path, strike: tuple[str, str]
) -> None:
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    victim = await start(url, path, [request_id], strike=(*strike, "SIGKILL"), lease=1)
    await victim.wait()
    assert 0 == emulator.billed_total

    async with restarted(url, path) as client:
        pending = await client.pending()
        result = await client.wait_for(request_id)

    assert [request_id] == [job.request_id for job in pending]
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize(
    ("strike", "billed"),
    [(("Arm", "after"), 0), (("Store", "before"), 1)],
    ids=["after arm", "after the body"],
)
async def test_killed_after_it_armed_leaves_the_job_uncertain(
    emulator: Emulator, url: str, tmp_path: Path, strike: tuple[str, str], billed: int
) -> None:
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    victim = await start(url, path, [request_id], strike=(*strike, "SIGKILL"), lease=1)
    await victim.wait()

    async with restarted(url, path) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)
        unresolved = await client.unresolved()
        assert billed == emulator.billed_total
        result = await client.result(request_id, accept_second_charge=True)

    assert "sent" == caught.value.phase
    assert [request_id] == [entry.job.request_id for entry in unresolved]
    assert isinstance(result, Result)
    assert billed + 1 == emulator.billed_total


async def test_killed_after_the_server_billed_is_uncertain_within_fifteen_seconds(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    """With the leases that ship, not shortened ones."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(60))
    path = tmp_path / "runs.db"
    victim = await start(url, path, [request_id])
    async with asyncio.timeout(5):
        while not emulator.billed_total:
            await asyncio.sleep(0.01)
    victim.kill()
    await victim.wait()

    started = asyncio.get_running_loop().time()
    async with restarted(url, path) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
    took = asyncio.get_running_loop().time() - started

    assert took < 15
    assert {request_id: 1} == emulator.billed


async def test_killed_after_it_stored_serves_the_result_without_any_call(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    victim = await start(url, path, [request_id], strike=("Store", "after", "SIGKILL"))
    await victim.wait()
    calls = len(emulator.requests)

    async with restarted(url, path) as client:
        result = await client.wait_for(request_id)
        again = await client.result(request_id)

    assert result == again
    assert calls == len(emulator.requests)
    assert {request_id: 1} == emulator.billed


async def test_stopped_claimant_past_its_lease_sends_no_byte_when_it_wakes(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    stopped = await start(url, path, [request_id], strike=("Arm", "before", "SIGSTOP"), lease=1)
    await struck(stopped)

    async with restarted(url, path) as client:
        result = await client.wait_for(request_id)
    stopped.send_signal(signal.SIGCONT)

    assert request_id == result.request_id
    assert ["Result"] == await answer(stopped)
    assert {request_id: 1} == emulator.result_calls


async def test_stopped_claimant_claims_anew_when_nobody_took_its_place(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    stopped = await start(
        url, tmp_path / "runs.db", [request_id], strike=("Arm", "before", "SIGSTOP"), lease=1
    )
    await struck(stopped)
    await asyncio.sleep(1.1)
    stopped.send_signal(signal.SIGCONT)

    assert ["Result"] == await answer(stopped)
    assert {request_id: 1} == emulator.result_calls


async def test_late_answer_of_a_paused_owner_becomes_stored(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    paused = await start(
        url, path, [request_id], strike=("Store", "before", "SIGSTOP"), lease=1
    )
    await struck(paused)

    async with restarted(url, path) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        paused.send_signal(signal.SIGCONT)
        assert ["Result"] == await answer(paused)
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


async def test_eight_processes_bill_two_hundred_jobs_once_each(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=1)) for _ in range(200)]

    victims = [await start(url, tmp_path / "runs.db", ids) for _ in range(8)]
    answers = await asyncio.gather(*(answer(victim) for victim in victims))

    assert [["Result"] * 200] * 8 == answers
    assert Counter(ids) == emulator.billed


async def test_waiting_client_takes_over_from_one_that_dies(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait at once; the one with the claim dies, the other goes on without a word."""
    monkeypatch.setattr(leases, "LEASE", 1.0)
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    victim = await start(url, path, [request_id], strike=("Arm", "before", "SIGSTOP"), lease=1)
    await struck(victim)

    async with restarted(url, path) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        asking = asyncio.create_task(client.result(request_id))
        await asyncio.sleep(0.3)
        victim.kill()
        result, same = await asyncio.gather(waiting, asking)
    await victim.wait()

    assert result == same
    assert {request_id: 1} == emulator.result_calls

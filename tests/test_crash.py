"""Processes that are killed or stopped at each point of the billed call, and restarts."""

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
from support import on_socket, until

from modelmax_async import AsyncQueueClient, Result, ResultUncertainError, SQLiteLedger
from modelmax_async._billing import leases
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]
VICTIM = Path(__file__).with_name("victim.py")


async def start(url: str, path: Path, ids: list[str], **options: Any) -> Process:
    """Start a victim on the ledger at ``path``."""
    argument = json.dumps({"url": url, "path": str(path), "ids": ids} | options)
    return await asyncio.create_subprocess_exec(
        sys.executable, str(VICTIM), argument, stdout=PIPE, cwd=VICTIM.parent.parent
    )


async def killed(url: str, path: Path, request_id: str, *strike: str) -> None:
    """Run a victim that kills itself before or after a move."""
    victim = await start(url, path, [request_id], strike=(*strike, "SIGKILL"), lease=1)
    await victim.wait()


async def stopped(url: str, path: Path, request_id: str, *strike: str) -> Process:
    """Start a victim, and wait until it has stopped itself before or after a move."""
    victim = await start(url, path, [request_id], strike=(*strike, "SIGSTOP"), lease=1)
    await struck(victim)
    return victim


async def struck(process: Process) -> None:
    assert process.stdout is not None
    assert b"struck\n" == await process.stdout.readline()


async def output(process: Process) -> list[str]:
    out, _ = await process.communicate()
    names: list[str] = json.loads(out)
    return names


def restarted(url: str, path: Path) -> AsyncQueueClient:
    return on_socket(url, ledger=SQLiteLedger(path))


@pytest.mark.parametrize("strike", [("Claim", "before"), ("Claim", "after")])
async def test_killed_before_it_armed_leaves_the_job_pending(
    emulator: Emulator, url: str, tmp_path: Path, strike: tuple[str, str]
) -> None:
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    await killed(url, path, request_id, *strike)
    billed = emulator.billed_total

    async with restarted(url, path) as client:
        pending = await client.pending()
        result = await client.wait_for(request_id)

    assert 0 == billed
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
    await killed(url, path, request_id, *strike)

    async with restarted(url, path) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)
        unresolved = await client.unresolved()
        billed_before = emulator.billed_total
        result = await client.result(request_id, accept_second_charge=True)

    assert billed == billed_before
    assert "sent" == caught.value.phase
    assert [request_id] == [entry.job.request_id for entry in unresolved]
    assert isinstance(result, Result)
    assert billed + 1 == emulator.billed_total


async def test_killed_after_the_server_billed_is_uncertain_within_fifteen_seconds(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    """The leases have their default length."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(60))
    path = tmp_path / "runs.db"
    victim = await start(url, path, [request_id])
    await until(lambda: emulator.billed_total)
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
    await killed(url, path, request_id, "Store", "after")
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
    victim = await stopped(url, path, request_id, "Arm", "before")

    async with restarted(url, path) as client:
        result = await client.wait_for(request_id)
    victim.send_signal(signal.SIGCONT)
    late = await output(victim)

    assert request_id == result.request_id
    assert ["Result"] == late
    assert {request_id: 1} == emulator.result_calls


async def test_stopped_claimant_claims_again_if_no_other_process_did(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    victim = await stopped(url, tmp_path / "runs.db", request_id, "Arm", "before")
    await asyncio.sleep(1.1)
    victim.send_signal(signal.SIGCONT)
    late = await output(victim)

    assert ["Result"] == late
    assert {request_id: 1} == emulator.result_calls


async def test_late_response_of_a_paused_owner_becomes_stored(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    victim = await stopped(url, path, request_id, "Store", "before")

    async with restarted(url, path) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        victim.send_signal(signal.SIGCONT)
        late = await output(victim)
        result = await client.wait_for(request_id)

    assert ["Result"] == late
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


async def test_eight_processes_bill_two_hundred_jobs_once_each(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=1)) for _ in range(200)]

    victims = [await start(url, tmp_path / "runs.db", ids) for _ in range(8)]
    outputs = await asyncio.gather(*(output(victim) for victim in victims))

    assert [["Result"] * 200] * 8 == outputs
    assert Counter(ids) == emulator.billed


async def test_waiting_client_takes_over_from_one_that_dies(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait at once; the process with the claim dies, and the client fetches the result."""
    monkeypatch.setattr(leases, "LEASE", 1.0)
    request_id = emulator.add_job()
    path = tmp_path / "runs.db"
    victim = await stopped(url, path, request_id, "Arm", "before")

    async with restarted(url, path) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        asking = asyncio.create_task(client.result(request_id))
        await asyncio.sleep(0.3)
        victim.kill()
        result, same = await asyncio.gather(waiting, asking)
    await victim.wait()

    assert result == same
    assert {request_id: 1} == emulator.result_calls


async def test_refetch_settles_a_job_that_an_earlier_client_left_uncertain(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())
    path = tmp_path / "runs.db"
    async with restarted(url, path) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    async with on_socket(url, ledger=SQLiteLedger(path), on_uncertain="refetch") as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.billed


async def called(emulator: Emulator, calls: int) -> None:
    await until(lambda: len(emulator.requests) >= calls, within=15)


@pytest.mark.parametrize("processes", [1, 2])
async def test_batch_killed_again_and_again_pays_once_for_each_request(
    emulator: Emulator, url: str, tmp_path: Path, processes: int
) -> None:
    path, out, count = tmp_path / "runs.db", tmp_path / "out", 16
    batch = {"rows": count, "directory": str(out), "lease": 1}
    emulator.script(*[JobScript(run_seconds=0.2)] * count)
    for calls in (5, 25):
        victims = [await start(url, path, [], **batch) for _ in range(processes)]
        await called(emulator, len(emulator.requests) + calls)
        for victim in victims:
            victim.kill()
            await victim.wait()

    last = [await start(url, path, [], **batch) for _ in range(processes)]
    ends = [await output(process) for process in last]
    async with restarted(url, path) as client:
        uncertain = [entry.job.key for entry in await client.unresolved()]

    saved = count - len(uncertain)
    expected = Counter({"Result": saved, "ResultUncertainError": len(uncertain)})
    assert [+expected] * processes == [Counter(each) for each in ends]
    assert saved == len([file for file in out.iterdir() if file.suffix == ".mp4"])
    assert saved <= emulator.billed_total <= count
    assert 1 == max(emulator.billed.values())

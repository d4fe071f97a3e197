"""The emulator's account, its seeded failures, and the billing summary at its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from support import KEY, in_process, in_virtual_time

from modelmax_async import InsufficientBalanceError, JobFailedError
from modelmax_async.emulator import Emulator, Fault, JobScript

HEADERS = {"authorization": f"Bearer {KEY}"}
PROCESS = [sys.executable, "-X", "dev", "-W", "error", "-m", "modelmax_async.emulator"]


async def balance_of(emulator: Emulator) -> object:
    """What the vendor's client reads (API §6)."""
    async with httpx.AsyncClient(transport=emulator.transport(), headers=HEADERS) as client:
        return (await client.get("http://emulator/v1/config")).json()["balance"]


async def outcomes(emulator: Emulator, jobs: int = 200) -> list[bool]:
    """Submit jobs, and return whether each failed."""
    async with in_process(emulator) as client:
        submitted = [await client.submit("a reef") for _ in range(jobs)]
        await client.gather_results(submitted, return_exceptions=True)
    return [not emulator.billed[job.request_id] for job in submitted]


@pytest.mark.anyio
@in_virtual_time
async def test_each_billed_call_lowers_the_balance_until_it_is_refused() -> None:
    emulator = Emulator(balance=7.0, price=3.2)
    seen = []
    async with in_process(emulator) as client:
        for _ in range(3):
            seen.append(await balance_of(emulator))
            await client.generate("a reef")
        with pytest.raises(InsufficientBalanceError):
            await client.submit("a reef")
        last = await balance_of(emulator)
        emulator.balance = 10.0
        await client.generate("a reef")

    assert [7.0, 3.8, 0.6] == seen
    assert -2.6 == last
    assert 6.8 == emulator.balance
    assert 4 == emulator.billed_total


@pytest.mark.anyio
@in_virtual_time
async def test_only_a_billed_call_costs_anything() -> None:
    emulator = Emulator(balance=1.0)
    emulator.script(JobScript(outcome="FAILED"), JobScript(lag_polls=3))
    emulator.fault("result", Fault.error(502), times=2)
    async with in_process(emulator) as client:
        with pytest.raises(JobFailedError):
            await client.generate("a reef")
        before = emulator.balance
        await client.generate("a reef")

    assert (1.0, 0.0) == (before, emulator.balance)


@pytest.mark.anyio
@in_virtual_time
async def test_account_without_a_balance_has_no_limit(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        await client.generate("a reef")

    assert emulator.balance is None
    assert await balance_of(emulator) is None


@pytest.mark.anyio
@in_virtual_time
async def test_balance_can_be_a_numeric_string(emulator: Emulator) -> None:
    emulator.fault("config", Fault.raw(200, b'{"balance": "12.50"}'))

    assert "12.50" == await balance_of(emulator)
    assert await balance_of(emulator) is None


@pytest.mark.untraced
@pytest.mark.anyio
@in_virtual_time
async def test_share_of_the_jobs_fails_the_same_ones_for_a_seed() -> None:
    first, again, other = [
        await outcomes(Emulator(fail_rate=0.1, seed=seed)) for seed in (7, 7, 8)
    ]

    assert first == again != other
    assert 10 <= sum(first) <= 30
    assert [True] * 5 == await outcomes(Emulator(fail_rate=1.0), 5)
    assert [False] * 5 == await outcomes(Emulator(fail_rate=0.0), 5)


@pytest.mark.anyio
@in_virtual_time
async def test_fail_rate_changes_neither_ids_nor_scripted_jobs() -> None:
    emulators = [
        Emulator(fail_rate=rate, script=JobScript(statuses=("ODD",))) for rate in (0, 1)
    ]
    for emulator in emulators:
        emulator.script(JobScript())
        async with in_process(emulator) as client:
            await client.generate("scripted")
            await client.submit("by default")
    (_, odd), (_, failed) = [list(emulator.jobs.values()) for emulator in emulators]

    assert list(emulators[0].jobs) == list(emulators[1].jobs)
    assert (("ODD",), None) == (odd.script.statuses, failed.script.statuses)
    assert "FAILED" == failed.script.outcome


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_share_must_be_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match="fail_rate must be a number from 0 to 1, got"):
        Emulator(fail_rate=rate)


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_price_must_be_dollars(price: float) -> None:
    with pytest.raises(ValueError, match="price must be a number of dollars from 0, got"):
        Emulator(price=price)


@pytest.mark.anyio
@in_virtual_time
async def test_summary_tells_jobs_bills_and_second_charges() -> None:
    emulator = Emulator(balance=3.0, price=1.25)
    emulator.script(
        JobScript(),
        JobScript(outcome="FAILED"),
        JobScript(run_seconds=600),
        JobScript(statuses=("PAUSED", "COMPLETED")),
        JobScript(),
    )
    async with in_process(emulator) as client:
        job, *_ = [
            await client.submit(name) for name in ("twice", "failed", "runs", "odd", "n")
        ]
        emulator.fault("result", Fault.drop_after())
        await client.gather_results([job], return_exceptions=True)
        await client.result(job, accept_second_charge=True)
    emulator.add_job("not asked about")
    text = emulator.summary()

    assert [
        "jobs: 6 (3 completed, 1 failed, 2 not ended)",
        "billed calls: 2",
        "completed, and not billed: 2",
        "billed more than once: 1",
        f"  {job.request_id}: 2 calls",
        "spent: $2.50 ($1.25 for each billed call)",
        "balance: $0.50",
    ] == text.splitlines()


@pytest.mark.anyio
@in_virtual_time
async def test_summary_of_an_overdrawn_account(emulator: Emulator) -> None:
    emulator.balance = -0.5

    assert "spent: $0.00 ($1.00 for each billed call)\nbalance: -$0.50" in emulator.summary()


def started(*options: str) -> tuple[subprocess.Popen[str], str]:
    """Start the emulator's process, and return it with its base URL."""
    process = subprocess.Popen(  # noqa: S603 - the command is made by the test
        [*PROCESS, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_ends_with_the_billing_summary(number: signal.Signals) -> None:
    process, url = started("--seconds=0", "--balance=20", "--price=3.2", "--seed=7")
    with httpx.Client(base_url=url, headers=HEADERS, trust_env=False) as client:
        job = client.post("/v1/queue/veo-3", json={"prompt": "x"}).json()
        client.get(job["response_url"])
        config = client.get("/v1/config").json()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)

    assert {"balance": 16.8} == config
    assert Emulator(seed=7).add_job() == job["request_id"]
    assert (0, "") == (process.returncode, err)
    assert [
        "jobs: 1 (1 completed, 0 failed, 0 not ended)",
        "billed calls: 1",
        "completed, and not billed: 0",
        "billed more than once: 0",
        "spent: $3.20 ($3.20 for each billed call)",
        "balance: $16.80",
        "seed: 7",
    ] == out.splitlines()


def test_process_ends_quietly_if_nobody_reads_its_summary() -> None:
    process, _ = started()
    assert process.stdout is not None
    process.stdout.close()
    process.terminate()
    _, err = process.communicate(timeout=10)

    assert (0, "") == (process.returncode, err)


def test_broken_pipe_leaves_nothing_to_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = import_module("modelmax_async.emulator.__main__")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        module._print("unread")

        assert os.fstat(stdout.fileno()).st_rdev == Path(os.devnull).stat().st_rdev


def test_process_without_a_seed_never_repeats_the_ids_of_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client's ledger would take the new jobs for those that it has paid for."""
    module = import_module("modelmax_async.emulator.__main__")
    made: list[Emulator] = []

    async def run(emulator: Emulator, _: object) -> None:
        made.append(emulator)

    monkeypatch.setattr(module, "_run", run)
    for options in ([], [], ["--seed=7"], ["--seed=7"]):
        module.main(options)
    first, other, seventh, again = [emulator.add_job() for emulator in made]

    assert first != other
    assert seventh == again


def test_process_refuses_an_impossible_share(capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module("modelmax_async.emulator.__main__")
    with pytest.raises(SystemExit):
        module.main(["--fail-rate", "2"])

    assert "error: fail_rate must be a number from 0 to 1, got 2.0" in capsys.readouterr().err

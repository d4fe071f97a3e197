"""The README: every block of it is run, or compared with what runs it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support import KEY, on_socket

from modelmax_async import Job, ResultUncertainError, SQLiteLedger
from modelmax_async.emulator import Emulator, Fault, sample_mp4

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DEMO = 'python -m pip install ".[cli]" && modelmax demo'
TESTS = 'python -m pip install -e ".[test]" && python -m pytest'
_PARTS = re.compile(
    r"^## (?P<title>[^\n]+)$|^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block and the section that it stands in."""

    section: str
    kind: str
    text: str


def _blocks() -> Iterator[Block]:
    section = ""
    for part in _PARTS.finditer(README):
        section = part["title"] or section
        if part["title"] is None:
            yield Block(section, part["kind"], part["text"])


BLOCKS = list(_blocks())
PROGRAMS = [block for block in BLOCKS if block.kind == "python"]


def program(section: str, number: int = 0) -> str:
    return [block.text for block in PROGRAMS if block.section == section][number]


def complaints(err: bytes | str) -> str:
    """Return what a program said on stderr, less what debug mode says of a busy machine."""
    text = err if isinstance(err, str) else err.decode()
    return re.sub(r"^Executing <.*> took \d\.\d+ seconds\n", "", text, flags=re.MULTILINE)


async def run_program(text: str, directory: Path, url: str) -> str:
    """Run a block as a user would, with every warning an error; what it printed."""
    (directory / "program.py").write_text(text, "utf-8")
    environment = os.environ | {
        "MODELMAX_API_KEY": KEY,
        "MODELMAX_API_BASE_URL": url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "program.py"),
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = await process.communicate(b"y\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert complaints(err) == ""
    assert process.returncode == 0
    return out.decode()


async def leave_open(url: str, emulator: Emulator, directory: Path) -> tuple[Job, Job]:
    """Leave a ledger behind with a job of unknown outcome and one that is pending."""
    async with on_socket(url, ledger=SQLiteLedger(directory / "runs.db")) as client:
        unknown = await client.submit("its answer is lost")
        emulator.fault("result", Fault.drop_after(), request_id=unknown.request_id)
        with pytest.raises(ResultUncertainError):
            await client.wait_for(unknown)
        pending = await client.submit("nobody waits for it")
    return unknown, pending


@pytest.mark.anyio
@pytest.mark.parametrize(
    "text", [block.text for block in PROGRAMS], ids=[block.section for block in PROGRAMS]
)
async def test_program_runs_as_it_stands_without_a_warning(
    text: str, emulator: Emulator, url: str, tmp_path: Path
) -> None:
    await run_program(text, tmp_path, url)

    assert set(emulator.jobs) == set(emulator.billed)
    assert emulator.billed_total == len(emulator.jobs)


@pytest.mark.anyio
async def test_restart_program_fetches_what_was_pending_and_reports_what_is_uncertain(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    unknown, pending = await leave_open(url, emulator, tmp_path)
    out = await run_program(program("Batches", 1), tmp_path, url)

    assert {unknown.request_id: 1, pending.request_id: 1} == emulator.billed
    assert f"{pending.request_id} Result(" in out
    assert f"{unknown.request_id} job " in out


@pytest.mark.anyio
async def test_money_program_fetches_an_uncertain_job_again_once_told_to(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    unknown, _ = await leave_open(url, emulator, tmp_path)
    out = await run_program(program("Money"), tmp_path, url)

    assert {unknown.request_id: 2} == emulator.billed
    assert "Result(" in out


@pytest.mark.anyio
async def test_download_program_saves_the_video(url: str, tmp_path: Path) -> None:
    out = await run_program(program("Downloads"), tmp_path, url)
    (saved,) = (tmp_path / "videos").iterdir()

    assert saved.name in out
    assert saved.read_bytes() == sample_mp4()


def test_shell_blocks_are_the_two_setup_commands() -> None:
    shell = [block.text.strip() for block in BLOCKS if block.kind == "sh"]

    assert shell == [DEMO, TESTS]
    assert {"sh", "python", "text"} == {block.kind for block in BLOCKS}


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    done = subprocess.run(  # noqa: S603 - a script of this repository
        [ROOT / ".ci" / "run", "--command"], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == TESTS


def test_demo_ends_within_twenty_seconds_with_the_bill_of_each_job(tmp_path: Path) -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "modelmax_async", "demo"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - start
    (directory,) = tmp_path.iterdir()

    assert complaints(done.stderr) == ""
    assert done.returncode == 0
    assert seconds < 20
    assert len(list(directory.glob("*.mp4"))) == 7
    assert re.search(
        r"^Sum: 8 jobs, \d+ polls, 7 billed calls, 7 files", done.stdout, re.MULTILINE
    )
    assert "8 results once more: 0 further billed calls" in done.stdout
    assert f"The videos are in {directory}" in done.stdout


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """A parent that ignores SIGINT, as a shell's background job does, hands that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_demo_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "modelmax_async", "demo"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = next(line for line in process.stdout if "job 4: saved" in line)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)

    assert seen
    assert complaints(err) == ""
    assert process.returncode == 130
    assert "Interrupted" in out

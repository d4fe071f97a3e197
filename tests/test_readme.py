"""The README's code blocks run as they stand; its commands are those that CI and nox run."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
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
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
SECURITY = (ROOT / ".github" / "SECURITY.md").read_text("utf-8")
DEMO = 'python -m pip install ".[cli]" && modelmax demo'
TESTS = 'python -m pip install -e ".[test]" && python -m pytest'
CHECKS = "nox --no-venv --no-install --tags checks"
_PARTS = re.compile(
    r"^## (?P<title>[^\n]+)$|^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block and the title of its section."""

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
#: These need a server of their own, or serve: `test_recipes` runs them.
SERVICES = re.compile(r"^from (app|fastapi|taskiq|tasks) import ", re.MULTILINE)
PROGRAMS = [block for block in BLOCKS if block.kind == "python"]
#: `test_test_files_pass` runs these, with the `conftest.py` that is shown before them.
TEST_FILE = re.compile(r"^(async )?def test_", re.MULTILINE)
ALONE = [
    block
    for block in PROGRAMS
    if not SERVICES.search(block.text) and not TEST_FILE.search(block.text)
]


def program(section: str, number: int = 0) -> str:
    return [block.text for block in PROGRAMS if block.section == section][number]


def complaints(err: bytes | str) -> str:
    """Return stderr without the messages of debug mode about slow callbacks."""
    text = err if isinstance(err, str) else err.decode()
    return re.sub(r"^Executing <.*> took \d\.\d+ seconds\n", "", text, flags=re.MULTILINE)


async def run_program(text: str, directory: Path, url: str) -> str:
    """Run a block as a user would, with warnings as errors, and return its output."""
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
    assert "" == complaints(err)
    assert 0 == process.returncode
    return out.decode()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def leave_open(url: str, emulator: Emulator, directory: Path) -> tuple[Job, Job]:
    """Make a ledger with an uncertain job and a pending one, and return both jobs."""
    async with on_socket(url, ledger=SQLiteLedger(directory / "runs.db")) as client:
        uncertain = await client.submit("the response is lost")
        emulator.fault("result", Fault.drop_after(), request_id=uncertain.request_id)
        with pytest.raises(ResultUncertainError):
            await client.wait_for(uncertain)
        pending = await client.submit("no caller waits for it")
    return uncertain, pending


@pytest.fixture
def _database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a database to the programs that use one; its server takes a second to start."""
    if "DATABASE_URL" in request.node.callspec.params["text"]:
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("dsn"))


@pytest.mark.anyio
@pytest.mark.usefixtures("_database")
@pytest.mark.parametrize(
    "text", [block.text for block in ALONE], ids=[block.section for block in ALONE]
)
async def test_program_runs_unchanged_and_without_warnings(
    text: str, emulator: Emulator, url: str, tmp_path: Path
) -> None:
    text = text.replace("9464", str(free_port()))  # of another run of these tests, perhaps
    await run_program(text, tmp_path, url)

    assert set(emulator.jobs) == set(emulator.billed)
    assert len(emulator.jobs) == emulator.billed_total


def test_test_files_pass(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(program("Testing your own code"))
    files = [block.text for block in PROGRAMS if TEST_FILE.search(block.text)]
    pytester.makepyfile(**{f"test_{number}": text for number, text in enumerate(files)})
    slow = ("-p", "no:xdist", "-p", "no:hypothesispytest")  # their imports take seconds
    result = pytester.runpytest_subprocess("-W", "error", *slow)

    result.assert_outcomes(passed=5)


@pytest.mark.anyio
async def test_batch_program_can_be_run_again(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    outs = [await run_program(program("Batches"), tmp_path, url) for _ in range(2)]

    assert sorted(outs[0].splitlines()) == sorted(outs[1].splitlines())
    assert 3 == len(emulator.jobs) == emulator.billed_total
    assert 3 == len(list((tmp_path / "videos").iterdir()))


@pytest.mark.anyio
async def test_restart_program_saves_what_is_paid_for(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
        await client.generate("the process ended before the download")
    await run_program(program("Batches", 1), tmp_path, url)

    assert 1 == emulator.billed_total
    assert 1 == len(list((tmp_path / "videos").iterdir()))


@pytest.mark.anyio
async def test_restart_program_fetches_pending_jobs_and_reports_uncertain_ones(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    uncertain, pending = await leave_open(url, emulator, tmp_path)
    out = await run_program(program("Batches", 1), tmp_path, url)

    assert {uncertain.request_id: 1, pending.request_id: 1} == emulator.billed
    assert f"{pending.request_id} Result(" in out
    assert f"{uncertain.request_id} job " in out


@pytest.mark.anyio
async def test_money_program_fetches_an_uncertain_job_again_after_consent(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    uncertain, _ = await leave_open(url, emulator, tmp_path)
    out = await run_program(program("Money"), tmp_path, url)

    assert {uncertain.request_id: 2} == emulator.billed
    assert "Result(" in out


@pytest.mark.anyio
async def test_logging_program_writes_two_lines_for_a_job(url: str, tmp_path: Path) -> None:
    await run_program(program("Logs, traces and metrics"), tmp_path, url)
    log = (tmp_path / "runs.log").read_text("utf-8")
    lines = [line for line in log.splitlines() if " INFO " in line]  # no slow callbacks

    assert 2 == len(lines)
    assert lines[0].endswith(" was submitted to 127.0.0.1, key row-17")
    assert lines[1].endswith("; its result is paid for")


@pytest.mark.anyio
async def test_metrics_program_can_be_scraped(url: str, tmp_path: Path) -> None:
    text = program("Logs, traces and metrics", 2).replace("9464", str(free_port()))
    text = text.replace("import start", "import generate_latest, start")
    end = "from pathlib import Path\nPath('scrape').write_bytes(generate_latest())\n"
    await run_program(text + end, tmp_path, url)
    scrape = (tmp_path / "scrape").read_text("utf-8")

    for line in (
        r'modelmax_polls_total\{.*modelmax_model="veo-3".*\} [1-9]',
        r'modelmax_billed_calls_total\{.*modelmax_outcome="charged".*\} 1\.0$',
        r'http_client_request_duration_seconds_bucket\{.*le="0.005".*\} ',
    ):
        assert re.search(f"^{line}", scrape, re.MULTILINE)


@pytest.mark.anyio
async def test_download_program_saves_the_video(url: str, tmp_path: Path) -> None:
    out = await run_program(program("Downloads"), tmp_path, url)
    (saved,) = (tmp_path / "videos").iterdir()

    assert saved.name in out
    assert sample_mp4() == saved.read_bytes()


@pytest.mark.anyio
async def test_progress_program_shows_the_wait_and_the_download(
    url: str, tmp_path: Path
) -> None:
    out = await run_program(program("Downloads", 1), tmp_path, url)
    (saved,) = (tmp_path / "videos").iterdir()
    making, saving = out.splitlines()

    assert sample_mp4() == saved.read_bytes()
    assert re.fullmatch(r"Making the video \S+ 100% \S+", making.strip())
    assert re.fullmatch(r"Saving the video \S+ 100% \S+", saving.strip())


@pytest.mark.anyio
async def test_commands_run_as_they_are_shown(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("Rain on a tin roof\nA fox in the snow\n", "utf-8")
    environment = os.environ | {
        "MODELMAX_API_KEY": KEY,
        "MODELMAX_API_BASE_URL": url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    text = "".join(block.text for block in BLOCKS if block.kind == "console")
    commands = [line.removeprefix("$ modelmax ").split() for line in text.splitlines()]
    codes = []
    for command in commands:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "modelmax_async", *command),
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        codes.append(await process.wait())

    assert [0] * 7 == codes
    assert 2 == len(list((tmp_path / "out").iterdir())) == emulator.billed_total


def _anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return "#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_table_of_contents_links_every_section_in_order() -> None:
    titles = re.findall(r"^## (.+)$", README, re.MULTILINE)
    contents = README.partition("## Contents\n")[2].partition("\n## ")[0]

    assert [_anchor(title) for title in titles[2:]] == re.findall(r"\]\((#[^)]+)\)", contents)


def test_links_within_the_readme_lead_somewhere() -> None:
    anchors = {_anchor(title) for title in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}

    assert set(re.findall(r"\]\((#[^)]+)\)", README)) <= anchors


def test_security_policy_links_to_sections_of_the_readme() -> None:
    anchors = {_anchor(title) for title in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}
    linked = set(re.findall(r"\]\(\.\./README\.md(#[^)]+)\)", SECURITY))

    assert {"#security", "#money"} == linked
    assert linked <= anchors


def test_shell_blocks_are_the_two_setup_commands() -> None:
    shell = [block.text.strip() for block in BLOCKS if block.kind == "sh"]

    assert [DEMO, TESTS] == shell
    assert {"console", "sh", "python", "text"} == {block.kind for block in BLOCKS}


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    done = subprocess.run(  # noqa: S603 - a script of this repository
        [ROOT / ".ci" / "run", "--command"], capture_output=True, text=True, check=True
    )

    assert TESTS == done.stdout.strip()


def test_contributing_names_the_nox_sessions() -> None:
    """Every session is described, and every command names a session that exists."""
    sessions = re.findall(
        r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE
    )
    described = re.findall(r"^\| `nox -s (\w+)` \|", CONTRIBUTING, re.MULTILINE)
    named = re.findall(r"\bnox\b[^`\n]* -s (\w+)", CONTRIBUTING)

    assert sessions == described
    assert set(sessions) == set(named)


@pytest.mark.parametrize("path", [".ci/run", ".pre-commit-config.yaml"])
def test_checks_are_run_as_nox_sessions(path: str) -> None:
    assert CHECKS in (ROOT / path).read_text("utf-8")


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

    assert "" == complaints(done.stderr)
    assert 0 == done.returncode
    assert seconds < 20
    assert 7 == len(list(directory.glob("*.mp4")))
    assert re.search(
        r"^Sum: 8 jobs, \d+ polls, 7 billed calls, 7 files", done.stdout, re.MULTILINE
    )
    assert "8 results once more: 0 further billed calls" in done.stdout
    assert f"The videos are in {directory}" in done.stdout


@pytest.fixture
def default_sigint() -> Iterator[None]:
    """Restore the handler of SIGINT, which a child of a background job inherits as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_sigint")
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
    assert "" == complaints(err)
    assert 130 == process.returncode
    assert "Interrupted" in out

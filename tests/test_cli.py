"""The command line, in process and many times faster than normal."""

from __future__ import annotations

import asyncio
import re
import runpy
import signal
import socket
import sys
import tempfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from modelmax_async import Expected, Job
from modelmax_async import __version__ as version
from modelmax_async.__main__ import main
from modelmax_async._cli import commands, demo, demo_view, local
from modelmax_async.emulator import Emulator, Fault, JobScript

SPEED = ["--speed", "50"]
ALL = commands.cli.commands


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The directory for temporary directories; undoes the proxy setting of the demo."""
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(commands.cli, arguments, env=environment)


def cells(output: str) -> list[list[str]]:
    """Return the cells of the table's body."""
    rows = [line.strip("│ ") for line in output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row.split("│")] for row in rows]


def test_demo_prints_the_billed_calls_of_each_job(temporary: Path) -> None:
    done = run("demo", "--directory", str(temporary / "new" / "videos"), *SPEED)
    table = cells(done.output)
    saved = sorted((temporary / "new" / "videos").iterdir())

    assert 0 == done.exit_code
    assert list("12345678") == [row[0][0] for row in table]
    assert ["COMPLETED"] * 5 + ["FAILED"] + ["COMPLETED"] * 2 == [row[1] for row in table]
    assert ["1"] * 5 + ["0"] + ["1"] * 2 == [row[3] for row in table]
    assert [path.name for path in saved] == sorted(
        re.findall(r"^Job \d saved (.*)$", done.output, re.MULTILINE)
    )
    assert all(path.read_bytes()[4:8] == b"ftyp" for path in saved)


def test_demo_prints_the_sums_of_the_rows(temporary: Path) -> None:
    done = run("demo", "--directory", str(temporary), *SPEED)
    polls = sum(int(row[2]) for row in cells(done.output))
    size = sum(path.stat().st_size for path in temporary.iterdir())

    assert f"Sum: 8 jobs, {polls} polls, 7 billed calls, 7 files, {size:,} bytes" in done.output
    assert "Job 6 FAILED and was not billed: the provider refused the prompt" in done.output
    assert "Asked for all 8 results once more: 0 further billed calls" in done.output


def test_demo_without_a_directory_prints_the_one_it_made(temporary: Path) -> None:
    done = run("demo", *SPEED)
    (made,) = temporary.iterdir()

    assert f"The videos are in {made}" in done.output
    assert 7 == len(list(made.iterdir()))


def test_demo_can_save_into_the_same_directory_again(temporary: Path) -> None:
    codes = [run("demo", "--directory", str(temporary), *SPEED).exit_code for _ in range(2)]

    assert [0, 0] == codes
    assert 7 == len(list(temporary.iterdir()))


def test_demo_prints_each_change_of_status_once_without_a_terminal() -> None:
    done = run("demo", "--speed", "10")
    lines = re.findall(r"^ *\d+\.\d s  (job .*)$", done.output, re.MULTILINE)

    assert len(lines) == len(set(lines))
    assert 1 == sum(line.startswith("job 5: saved ") for line in lines)
    assert "job 6: FAILED" in lines
    assert "\x1b" not in done.output


def test_demo_draws_a_live_table_on_a_terminal() -> None:
    done = run("demo", *SPEED, FORCE_COLOR="1", COLUMNS="80", TERM="xterm-256color")

    assert 0 == done.exit_code
    assert "Waiting for 8 jobs" in done.output
    assert "\x1b[32mCOMPLETED" in done.output
    assert "7 billed calls" in done.output


def test_progress_of_a_running_job_follows_what_was_learnt() -> None:
    job = Job("veo-3", "reef", submitted_at=1000.0)
    row = demo.Row(1, "Coral reef", JobScript(), status="IN_PROGRESS", job=job)

    demo.update(row, None, 1003.0)
    unknown = (row.progress, row.left)
    demo.update(row, Expected(9.0, 20.0), 1003.0)

    assert (0.0, None) == unknown
    assert (0.25, 9.0) == (row.progress, row.left)
    assert 25 == demo_view.bar(row).percentage_completed


def test_progress_of_an_ended_job_is_complete() -> None:
    job = Job("veo-3", "reef", submitted_at=1000.0)
    row = demo.Row(1, "Coral reef", JobScript(), status="FAILED", job=job)
    demo.update(row, Expected(9.0, 20.0), 1003.0)

    assert 0.0 == row.progress
    assert 100 == demo_view.bar(row).percentage_completed


def test_demo_learns_how_long_its_jobs_take(temporary: Path) -> None:
    rows = demo.new_rows(10)
    asyncio.run(demo.run(rows, temporary, speed=10, tell=lambda _: None))
    learnt = [row for row in rows if row.left is not None]

    assert learnt, "the later jobs know of those that have ended before"
    assert all(0 < row.progress < 1 for row in learnt)


def test_demo_interrupted_exits_130_and_leaves_no_empty_directory(
    monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    async def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run", interrupted)
    done = run("demo")

    assert 130 == done.exit_code
    assert "Interrupted" in done.output
    assert [] == list(temporary.iterdir())


def test_failing_demo_prints_its_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(**options: str) -> Emulator:
        emulator = Emulator(api_key=options["api_key"])
        emulator.fault("status", Fault.error(401, type="unauthorized"), times=None)
        return emulator

    monkeypatch.setattr(demo, "Emulator", refusing)
    done = run("demo", *SPEED)

    assert 1 == done.exit_code
    assert re.match(r"Error: HTTP 401 .*\n\Z", done.stderr)


def test_directory_that_cannot_be_made_is_an_error(temporary: Path) -> None:
    (temporary / "file").write_text("")
    done = run("demo", "--directory", str(temporary / "file" / "videos"))

    assert 1 == done.exit_code
    assert done.stderr.startswith("Error: ")


def test_emulator_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(local, "run_emulator", seen.append)
    done = run(
        *("emulator", "--port", "8080", "--seconds", "0.5", "--host", "::1", "--key", "-sk"),
        *("--fail-rate", "0.1", "--seed", "-7", "--balance", "20"),
    )

    assert 0 == done.exit_code
    assert [
        [
            "--balance=20.0",
            "--fail-rate=0.1",
            "--host=::1",
            "--key=-sk",
            "--port=8080",
            "--price=1.0",
            "--seconds=0.5",
            "--seed=-7",
        ]
    ] == [sorted(arguments) for arguments in seen]


def test_emulator_on_a_busy_port_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run("emulator", "--port", str(port))

    assert 1 == done.exit_code
    assert f"Error: port {port} is in use: choose another with --port\n" == done.stderr


def test_emulator_that_cannot_be_reached_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: list[str]) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(local, "run_emulator", refused)
    done = run("emulator", "--port", "80")

    assert (1, "Error: [Errno 13] Permission denied\n") == (done.exit_code, done.stderr)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_live_table_of_the_demo_fits(width: int) -> None:
    rows = demo.new_rows(1)
    for row in rows:
        row.status, row.polls, row.left = "IN_PROGRESS", 12, 120.0
    console = Console(width=width)
    with console.capture() as capture:
        console.print(demo_view.live_table(rows, 3.0, width))
    lines = capture.get().splitlines()

    assert all(len(line) <= width for line in lines)
    assert "│ 7 Potter at work     │ IN_PROGRESS │    12 │ 120.0 s │" in capture.get()
    assert [width >= 78, width >= 94] == ["progress" in lines[2], "saved" in lines[2]]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_is_not_cut(width: int) -> None:
    done = CliRunner().invoke(commands.cli, ["--help"], terminal_width=width)

    assert all(f"  {command.short_help}\n" in done.output for command in ALL.values())
    assert "130  interrupted; run the same command again" in done.output
    assert all(len(line) <= width for line in done.output.splitlines())


@pytest.mark.parametrize("name", sorted(ALL))
def test_command_documents_every_option(name: str) -> None:
    options = [option for option in ALL[name].params if isinstance(option, click.Option)]
    done = CliRunner().invoke(commands.cli, [name, "--help"], terminal_width=60)

    assert [] == [option.name for option in options if not option.help]
    assert all(option.opts[0] in done.output for option in options)
    assert all(len(line) <= 60 for line in done.output.splitlines() if " " in line.strip())


@pytest.mark.parametrize("module", ["click", "platformdirs", "rich", "uvicorn"])
def test_command_without_its_extra_prints_how_to_install_it(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as caught:
        main()

    assert 2 == caught.value.code
    assert (
        f"modelmax: the command line needs {module}: "
        'python -m pip install "modelmax-async[cli]"\n'
    ) == capsys.readouterr().err


def test_command_interrupted_before_it_starts_exits_130(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "cli", interrupted)
    with pytest.raises(SystemExit) as caught:
        main()

    assert 130 == caught.value.code


def test_command_that_is_terminated_ends_as_an_interrupted_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def terminated(**_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    kinds = (signal.SIGTERM, signal.SIGINT)
    inherited = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a background job
    before = [signal.getsignal(kind) for kind in kinds]
    monkeypatch.setattr(commands, "cli", terminated)
    with pytest.raises(SystemExit) as caught:
        main()
    after = [signal.getsignal(kind) for kind in kinds]
    signal.signal(signal.SIGINT, inherited)

    assert 130 == caught.value.code
    assert before == after


def test_package_runs_as_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["modelmax", "--version"])
    monkeypatch.delitem(sys.modules, "modelmax_async.__main__")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("modelmax_async", run_name="__main__")

    assert 0 == caught.value.code
    assert f"modelmax, version {version}\n" == capsys.readouterr().out

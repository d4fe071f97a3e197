"""The command line in a real terminal, and as a process that is killed or interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from cli_support import poll_fast, records, run, served
from support import KEY

from modelmax_async._cli.exits import INTERRUPTED
from modelmax_async.emulator import Emulator, Fault, JobScript

if sys.platform == "win32":
    pytest.skip("pseudo-terminals and SIGKILL are POSIX", allow_module_level=True)

import fcntl
import pty
import struct
import termios

PROGRAM = [sys.executable, str(Path(__file__).with_name("cli_program.py"))]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TITLE = r"[0-9a-f]{16}-1 \((A reef|In the rain|At sea)\)"
each_width = pytest.mark.parametrize("width", [60, 80, 120])


@pytest.fixture
def environment(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The environment of a program that uses the emulator, as commands in process do."""
    poll_fast(monkeypatch)
    with served(emulator) as url:
        monkeypatch.setenv("MODELMAX_API_BASE_URL", url)
        inherited = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ
        }
        yield inherited | {
            "MODELMAX_API_KEY": KEY,
            "MODELMAX_API_BASE_URL": url,
            "TERM": "xterm-256color",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
        }


@attrs.frozen
class Shown:
    """What a program wrote to its terminal, and its exit code."""

    raw: str
    code: int

    @property
    def lines(self) -> list[str]:
        """The text of all lines, those that were overwritten included."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", self.raw))]


def in_terminal(
    width: int,
    environment: dict[str, str],
    *command: str,
    program: list[str] = PROGRAM,
    stdout: int | None = None,
) -> Shown:
    """Run a program in a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*program, *command],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        cwd=environment["HOME"],
        env=environment,
    )
    os.close(theirs)
    raw = b""
    try:
        while chunk := os.read(ours, 65536):
            raw += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    return Shown(raw.decode(), process.wait(10))


def wide(lines: list[str]) -> int:
    return max(len(line) for line in lines)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@each_width
def test_progress_of_a_batch_fits(
    width: int, emulator: Emulator, environment: dict[str, str], tmp_path: Path
) -> None:
    emulator.script(*[JobScript(run_seconds=1.5)] * 2, JobScript(outcome="FAILED", error="no"))
    shown = in_terminal(
        width, environment, "generate", "A reef", "In the rain", "At sea", "--model", "veo-3",
        "--ledger", str(tmp_path / "runs.db"), "--directory", "out-of-the-way",
    )  # fmt: skip
    progress = [line for line in shown.lines if "running" in line or "━" in line]

    assert 1 == shown.code
    assert wide(progress) <= width
    assert "waiting 0 · running 2 · done 0 · failed 1 · uncertain 0" in shown.lines
    assert any(re.fullmatch(r"[╸╺━ ]+ 1/3  \d s so far", line) for line in progress)
    assert 2 == sum(bool(re.fullmatch(TITLE, line)) for line in shown.lines)
    assert "3 jobs: 2 done, 1 failed" == shown.lines[-2]


@each_width
def test_outcome_polls_and_bills_of_the_demo_are_shown(
    width: int, environment: dict[str, str], tmp_path: Path
) -> None:
    command = ("demo", "--speed", "50", "--directory", str(tmp_path / "out"))
    program = [sys.executable, "-m", "modelmax_async"]
    shown = in_terminal(width, environment, *command, program=program)
    table = [line for line in shown.lines if line.startswith("│")]
    rows = [re.split(r" *│ *", line)[1:-1] for line in table[-8:]]

    assert 0 == shown.code
    assert wide(table) <= width
    assert ["COMPLETED"] * 5 + ["FAILED"] + ["COMPLETED"] * 2 == [row[1] for row in rows]
    assert ["1"] * 5 + ["0"] + ["1"] * 2 == [row[3] for row in rows]
    assert all(int(row[2]) > 0 for row in rows)


@each_width
def test_lists_put_what_does_not_fit_below(
    width: int, emulator: Emulator, environment: dict[str, str], tmp_path: Path
) -> None:
    ledger = ("--ledger", str(tmp_path / "runs.db"))
    key = "a key of thirty-two characters.."
    emulator.fault("result", Fault.drop_after())
    command = ("submit", "A reef", "--key", key, "--model", "veo-3", *ledger)
    (request_id,) = run(*command).stdout.split()
    pending = in_terminal(width, environment, "pending", *ledger)
    run("gather", "--pending", *ledger)
    unresolved = in_terminal(width, environment, "unresolved", *ledger)

    assert wide(pending.lines) <= width
    assert wide(unresolved.lines) <= width
    assert pending.lines[0].startswith(request_id)
    assert request_id == unresolved.lines[0]
    assert key in " ".join(" ".join(pending.lines).split())
    assert key in " ".join(" ".join(unresolved.lines).split())
    assert ["    veo-3 "] == sorted({line[:10] for line in unresolved.lines[1:2]})


@each_width
def test_table_of_usage_fits(
    width: int, emulator: Emulator, environment: dict[str, str], tmp_path: Path
) -> None:
    ledger = ("--ledger", str(tmp_path / "runs.db"))
    name = "veo-" + "x" * 100
    for model in ("veo-3", name):
        run("generate", "A reef", "--model", model, *ledger)
    shown = in_terminal(width, environment, "usage", *ledger)
    first, second, *folded, total = [line for line in shown.lines if line.strip()]

    assert 0 == shown.code
    assert wide(shown.lines) <= width
    assert ["model", "results", "videos", "seconds"] == first.split()
    assert ["veo-3", "1", "1", "8"] == second.split()
    assert name == "".join(line.split()[0] for line in folded)
    assert ["total", "2", "2", "16"] == total.split()


def test_no_color_is_respected(environment: dict[str, str], tmp_path: Path) -> None:
    command = ("generate", "A reef", "--model", "veo-3", "--ledger", str(tmp_path / "runs.db"))
    plain = in_terminal(80, environment | {"NO_COLOR": "1"}, *command)
    coloured = in_terminal(80, environment, *command)
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")

    assert (0, 0) == (plain.code, coloured.code)
    assert None is colour.search(plain.raw)
    assert None is not colour.search(coloured.raw)


def test_dumb_terminal_gets_plain_lines(environment: dict[str, str], tmp_path: Path) -> None:
    ledger = ("--ledger", str(tmp_path / "runs.db"))
    command = ("generate", "A reef", "--model", "veo-3", *ledger)
    shown = in_terminal(80, environment | {"TERM": "dumb"}, *command)

    assert "\x1b" not in shown.raw
    assert any(line.startswith("[1/1] done ") for line in shown.lines)


def test_results_are_piped_while_the_terminal_shows_the_progress(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = ("generate", "A reef", "--model", "veo-3", "--ledger", str(tmp_path / "runs.db"))
    with (tmp_path / "results").open("wb") as file:
        shown = in_terminal(80, environment, *command, "--json", stdout=file.fileno())
    (record,) = records((tmp_path / "results").read_text())

    assert "done" == record["state"]
    assert record["request_id"] not in shown.raw
    assert any("waiting" in line for line in shown.lines)


def test_json_on_a_terminal_is_printed_above_the_progress(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = ("generate", "A reef", "--model", "veo-3", "--ledger", str(tmp_path / "runs.db"))
    shown = in_terminal(60, environment, *command, "--json")
    (line,) = [line for line in shown.lines if line.startswith("{")]

    assert "A reef" == records(line)[0]["prompt"]


def start(environment: dict[str, str], directory: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own program
        [*PROGRAM, *command],
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_batch_goes_on_where_it_was(
    emulator: Emulator, environment: dict[str, str], tmp_path: Path
) -> None:
    emulator.script(*[JobScript(run_seconds=0.1 * number) for number in range(12)])
    (tmp_path / "prompts.csv").write_text(
        "prompt,resolution\n" + "".join(f"Scene {number % 6},720p\n" for number in range(12))
    )
    command = ["generate", "prompts.csv", "--directory", "out", "--model", "veo-3"]
    command += ["--ledger", "runs.db", "--max-jobs", "6", "--json"]
    first = start(environment, tmp_path, *command)
    until(lambda: emulator.billed_total >= 3)
    first.kill()
    first.communicate(timeout=10)
    again = start(environment, tmp_path, *command)
    out, _ = again.communicate(timeout=15)
    found = records(out)
    saved = [tmp_path / path for record in found for path in record["paths"]]

    assert -signal.SIGKILL == first.returncode
    assert 12 == len({record["key"] for record in found})
    assert 12 == len(set(saved)) or again.returncode == 3
    assert all(path.is_file() for path in saved)
    assert all(count == 1 for count in emulator.billed.values())
    assert emulator.submits <= 12 + 6, "a submit without a recorded answer is sent again"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_batch_ends_its_billed_call_and_goes_on_later(
    sent: signal.Signals, emulator: Emulator, environment: dict[str, str], tmp_path: Path
) -> None:
    emulator.fault("result", Fault.hang(1.0))
    command = ("generate", "A reef", "--model", "veo-3", "--ledger", "runs.db", "--json")
    first = start(environment, tmp_path, *command)
    until(lambda: emulator.billed_total)
    first.send_signal(sent)
    _, errors = first.communicate(timeout=10)
    again = start(environment, tmp_path, *command)
    out, _ = again.communicate(timeout=10)

    assert 130 == first.returncode
    assert "Interrupted: the billed calls in progress end first." == errors.splitlines()[0]
    assert INTERRUPTED == errors.splitlines()[-1]
    assert ["done"] == [record["state"] for record in records(out)]
    assert (1, 1) == (emulator.submits, emulator.billed_total)


def test_interrupted_question_changes_nothing(
    emulator: Emulator, environment: dict[str, str], tmp_path: Path
) -> None:
    ledger = ("--ledger", str(tmp_path / "runs.db"))
    emulator.fault("result", Fault.drop_after())
    (request_id,) = run("submit", "A reef", "--model", "veo-3", *ledger).stdout.split()
    run("gather", "--pending", *ledger)
    process = start(environment, tmp_path, "resolve", request_id, "--forget", *ledger)
    asked = ""
    while not asked.endswith("[y/N] "):
        assert process.stderr is not None
        asked += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)

    assert 130 == process.returncode
    assert errors.startswith("\nInterrupted: nothing is lost.")
    assert request_id in run("unresolved", *ledger).stdout


def test_output_that_cannot_be_encoded_is_escaped(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ledger = ("--ledger", str(tmp_path / "runs.db"))
    run("submit", "A reef", "--key", "récif", "--model", "veo-3", *ledger)
    process = start(environment | {"PYTHONIOENCODING": "ascii"}, tmp_path, "pending", *ledger)
    out, _ = process.communicate(timeout=10)

    assert 0 == process.returncode
    assert out.endswith("\tr\\xe9cif\n")

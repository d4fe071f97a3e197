"""What the command line prints of a batch: counts, time left, records, lines."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from support import in_process

from modelmax_async import (
    Expected,
    Failed,
    Job,
    JobFailedError,
    JobTimeoutError,
    Result,
    ResultDroppedError,
    ResultUncertainError,
    StatusReport,
    SubmitUncertainError,
    Succeeded,
    Usage,
    Video,
    VideoRequest,
)
from modelmax_async._cli.exits import Exit
from modelmax_async._cli.listing import print_jobs, print_status
from modelmax_async._cli.records import as_line, outcome_record, places_of, problem_of, title_of
from modelmax_async._cli.report import Report, duration, summary
from modelmax_async._cli.tally import State, Tally
from modelmax_async.emulator import Emulator
from modelmax_async.events import (
    BilledCallArmed,
    JobSubmitted,
    ResultStored,
    StatusPolled,
    VideoSaved,
)

REASON = "the provider refused the prompt"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
REEF, RAIN, WAVES = (Job("veo-3", name) for name in ("reef", "rain", "waves"))
RESULT = Result(
    "reef",
    "veo-3",
    (Video("/v/0", 0), Video("/v/1", 1)),
    Usage(8.0, "720p"),
)


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def uncertain(job: Job) -> ResultUncertainError:
    return ResultUncertainError("it broke", job=job, phase="sent", since=0.0)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard output and standard error one terminal of 60 columns."""
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    return stream


def unknown(_: Job) -> None:
    """Expect nothing of any job."""


def test_counts_add_up_to_the_total() -> None:
    tally = Tally(6)
    for event in (JobSubmitted(REEF), StatusPolled(REEF, "IN_QUEUE")):
        tally.on_event(event)
    for job in (RAIN, WAVES):
        tally.on_event(StatusPolled(job, "IN_PROGRESS"))
    tally.on_outcome(Succeeded(WAVES, RESULT))
    tally.on_outcome(Failed(None, SubmitUncertainError("no id")))

    assert {
        State.WAITING: 3,
        State.RUNNING: 1,
        State.DONE: 1,
        State.FAILED: 0,
        State.UNCERTAIN: 1,
        State.UNFINISHED: 0,
    } == tally.counts()


def test_time_left_is_that_of_the_slowest_open_job() -> None:
    tally = Tally(2)
    expected = {"reef": Expected(5.0, 9.0), "rain": Expected(8.0, 9.0)}
    for job in (REEF, RAIN):
        tally.on_event(JobSubmitted(job))

    assert 8.0 == tally.left(lambda job: expected[job.request_id])
    assert None is tally.left(unknown)


def test_time_left_counts_the_jobs_to_come() -> None:
    """Two were open at once and took 10 seconds, so that four more take twice as long."""
    clock = Clock()
    tally = Tally(6, clock)
    for job in (REEF, RAIN):
        tally.on_event(JobSubmitted(job))
    before = tally.left(unknown)
    clock.now = 10.0
    tally.on_outcome(Succeeded(REEF, RESULT))

    assert None is before
    assert 10.0 + 20.0 == tally.left(unknown)
    assert 4.0 + 20.0 == tally.left(lambda _: Expected(4.0, 9.0))


def test_job_that_the_ledger_has_already_tells_no_time() -> None:
    tally = Tally(2)
    tally.on_outcome(Succeeded(REEF, RESULT))

    assert None is tally.left(unknown)


def test_billed_call_in_progress_is_counted() -> None:
    tally = Tally(1)
    tally.on_event(BilledCallArmed(REEF, "a1"))
    armed = tally.billing
    tally.on_event(ResultStored(REEF, "a1"))
    tally.on_event(VideoSaved("reef", "reef.mp4", 7))

    assert (1, 0) == (armed, tally.billing)


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], Exit.DONE),
        ([JobFailedError("no", job=REEF)], Exit.FAILED),
        ([JobTimeoutError("late", job=REEF)], Exit.FAILED),
        ([JobFailedError("no", job=REEF), uncertain(RAIN)], Exit.UNCERTAIN),
        ([SubmitUncertainError("no id")], Exit.UNCERTAIN),
    ],
)
def test_exit_code_tells_the_worst_outcome(errors: list[Exception], code: Exit) -> None:
    report = Report(3, as_json=False)
    report.ended(Succeeded(REEF, RESULT))
    for error in errors:
        report.ended(Failed(REEF, error))

    assert code is report.exit


def test_record_of_a_result_has_its_request_and_its_files() -> None:
    request = VideoRequest("A reef", "veo-3", None, "row-1")
    paths = (Path("out/reef-0.mp4"), Path("out/reef-1.mp4"))
    record = json.loads(as_line(outcome_record(Succeeded(REEF, RESULT, request, paths))))

    assert {
        "state": "done",
        "key": "row-1",
        "request_id": "reef",
        "model": "veo-3",
        "prompt": "A reef",
        "videos": ["/v/0", "/v/1"],
        "paths": ["out/reef-0.mp4", "out/reef-1.mp4"],
        "usage": {"video_seconds": 8.0, "video_resolution": "720p", "video_has_audio": None},
        "error": None,
    } == record


def test_record_of_a_job_that_was_not_submitted_has_its_error() -> None:
    request = VideoRequest("A reef", "veo-3")
    record = outcome_record(Failed(None, SubmitUncertainError("no id"), request=request))

    assert (None, "veo-3", None) == (record["request_id"], record["model"], record["key"])
    assert {"type": "SubmitUncertainError", "message": "no id"} == record["error"]
    assert "uncertain" == record["state"]


def test_record_of_a_job_alone_has_its_key() -> None:
    job = Job("veo-3", "reef", key="row-1")
    record = outcome_record(Failed(job, JobTimeoutError("late", job=job)))

    assert ("row-1", "unfinished", None) == (record["key"], record["state"], record["prompt"])


def test_title_is_the_key_and_the_beginning_of_the_prompt() -> None:
    request = VideoRequest("A reef\nat noon, " + "and fish " * 9, key="row-1")

    assert "row-1 (A reef at noon, and fish and fish and fi…)" == title_of(
        Succeeded(REEF, RESULT, request)
    )
    assert "reef" == title_of(Succeeded(REEF, RESULT))
    assert "(A reef)" == title_of(
        Failed(None, SubmitUncertainError("no id"), VideoRequest("A reef"))
    )


def test_video_in_a_data_url_is_not_printed_whole() -> None:
    result = Result("reef", "veo-3", (Video("data:video/mp4;base64," + "A" * 10_000, 0),))
    (place,) = places_of(Succeeded(REEF, result))

    assert 201 == len(place)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (JobFailedError("refused", job=REEF), "not billed: refused"),
        (JobFailedError("", job=REEF), "not billed: no reason given"),
        (uncertain(REEF), "perhaps billed: decide with modelmax resolve reef"),
        (JobTimeoutError("late", job=REEF), "it is still running on the server: run the same"),
        (ResultDroppedError(job=REEF), "it was paid for and delivered, and its result is no"),
        (SubmitUncertainError("no id"), "no id"),
    ],
)
def test_problem_names_the_command_that_comes_next(error: Exception, text: str) -> None:
    assert problem_of(error).startswith(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.0, "59 s"), (59.9, "1 min"), (90.0, "2 min"), (3599.0, "1 h 00 min")],
)
def test_duration_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert text == duration(seconds)


def test_summary_names_the_ends_that_occurred() -> None:
    tally = Tally(3)
    none = summary(Tally(1))
    tally.on_outcome(Succeeded(REEF, RESULT))
    tally.on_outcome(Failed(RAIN, uncertain(RAIN)))

    assert "3 jobs: 1 done, 1 uncertain" == summary(tally)
    assert "1 job: none ended" == none


@pytest.mark.parametrize("width", [60, 80, 120])
def test_live_lines_of_a_large_batch_are_readable(width: int) -> None:
    report = Report(100_000, as_json=False)
    report.tally.ends.update({State.DONE: 40_000, State.FAILED: 17, State.UNCERTAIN: 2})
    console = Console(width=width)
    with console.capture() as capture:
        console.print(report.render())
    bar, *counts = capture.get().splitlines()

    assert bar.endswith("40019/100000  0 s so far")
    assert all(len(line) <= width for line in (bar, *counts))
    assert "waiting 59981 · running 0 · done 40000 · failed 17 · uncertain 2" == " ".join(
        line.strip() for line in counts
    )


@pytest.mark.anyio
@pytest.mark.parametrize("as_json", [False, True])
async def test_outcomes_are_printed_above_the_progress(
    monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    terminal = open_terminal(monkeypatch)
    report = Report(3, as_json=as_json)
    async with in_process(Emulator()) as client, report.progress(client):
        report.on_event(JobSubmitted(WAVES))
        report.ended(Succeeded(REEF, RESULT))
        report.ended(Failed(RAIN, JobFailedError(REASON, job=RAIN)))
        await asyncio.sleep(0.4)
    shown = [CONTROL.sub("", line).strip() for line in terminal.getvalue().splitlines()]

    assert as_json != ({"reef", "/v/0", "/v/1"} <= set(shown))
    assert as_json == any(line.startswith('{"state": "failed"') for line in shown)
    assert any("2/3  0 s so far" in line for line in shown)
    assert "[2/3] failed rain: not billed: the provider refused the" in shown, "between words"
    assert "3 jobs: 1 done, 1 failed" == shown[-1]


@pytest.mark.anyio
async def test_time_left_is_shown_once_it_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = open_terminal(monkeypatch)
    report = Report(1, as_json=False)
    monkeypatch.setattr(report.tally, "left", lambda _: 90.0)
    async with in_process(Emulator()) as client, report.progress(client):
        await asyncio.sleep(0.1)

    assert "0/1  about 2 min left" in terminal.getvalue()


@pytest.mark.anyio
@pytest.mark.parametrize(("armed", "note"), [(True, ["Interrupted: the billed"]), (False, [])])
async def test_interrupted_batch_says_what_it_waits_for(
    capsys: pytest.CaptureFixture[str], note: list[str], *, armed: bool
) -> None:
    report = Report(1, as_json=False)
    if armed:
        report.on_event(BilledCallArmed(REEF, "a1"))
    async with in_process(Emulator()) as client:
        with pytest.raises(asyncio.CancelledError):
            async with report.progress(client):
                raise asyncio.CancelledError

    assert note == [line[:23] for line in capsys.readouterr().err.splitlines()]


def test_list_on_a_terminal_puts_what_does_not_fit_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = open_terminal(monkeypatch)
    print_jobs([Job("veo-3", "reef", key="k" * 60), Job("veo-3", "rain")], as_json=False)

    assert ["reef", "    veo-3", "    " + "k" * 56, "    kkkk", "rain  veo-3"] == [
        line.rstrip() for line in terminal.getvalue().splitlines()
    ]


def test_text_of_a_server_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    error = JobFailedError("no\x1b[2J\tway", job=REEF)
    Report(1, as_json=False).ended(Failed(REEF, error))
    print_status(StatusReport("reef", "FAILED", "no\x1b[2J\nway"), as_json=False)

    assert "\x1b" not in terminal.getvalue()
    assert "reef  FAILED  no�[2J way\n" in terminal.getvalue()


def test_prompt_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    request = VideoRequest("[red]A :fire: reef", key="k")
    Report(1, as_json=False).ended(Succeeded(REEF, RESULT, request))

    assert "[1/1] done k ([red]A :fire: reef)\n" == capsys.readouterr().err

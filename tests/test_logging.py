"""The log: a job's story at INFO, every call at DEBUG, and neither keys nor signed URLs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
import re
import sys
from pathlib import Path

import attrs
import pytest
from cli_support import poll_fast, run, served
from strategies import JOB
from support import KEY, STEADY, in_process, in_virtual_time, on_socket

from modelmax_async import (
    AsyncQueueClient,
    DownloadError,
    JobFailedError,
    JobTimeoutError,
    RetryPolicy,
    events,
)
from modelmax_async._polling.waits import Wait
from modelmax_async._runtime import logs
from modelmax_async._runtime.hooks import Hooks
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, logging_hook

LOGGER = logging.getLogger("modelmax_async")
TEN_SECONDS = JobScript(queue_seconds=3, run_seconds=7)
SIGNED = [
    {"url": "/v1/queue/veo-3/requests/reef/content/0?sig=SECRET"},
    {"url": "https://videos.invalid/x.mp4?sig=SECRET"},
]


@pytest.fixture
def debug(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "modelmax_async")
    return caplog


@pytest.fixture
def info(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "modelmax_async")
    return caplog


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if record.name == "modelmax_async"]
    return [f"{record.levelname} {record.getMessage()}" for record in found]


SENTENCES: list[tuple[Event, str]] = [
    (events.JobSubmitted(JOB, "h"), "INFO job req-1 (veo-3) was submitted to h"),
    (
        events.JobSubmitted(attrs.evolve(JOB, key="row-17"), "h"),
        "INFO job req-1 (veo-3) was submitted to h, key row-17",
    ),
    (
        events.PollFailed(JOB, "HTTP 502", 1.5),
        (
            "DEBUG job req-1 (veo-3): the status call failed at no cost; the next one is in "
            "1.5 s: HTTP 502"
        ),
    ),
    (
        events.PollingPaused(30.0),
        "INFO the server asked for a pause: no poll starts for 30.0 s",
    ),
    (
        events.BilledCallArmed(JOB, "a1"),
        "DEBUG job req-1 (veo-3): the billed call is sent",
    ),
    (
        events.ResultStored(JOB, "a1"),
        "DEBUG job req-1 (veo-3) was charged: its result arrived",
    ),
    (
        events.AnswerDiscarded(JOB, "a1"),
        (
            "ERROR job req-1 (veo-3) was charged twice: a response was dropped, because the "
            "ledger already had a readable one"
        ),
    ),
    (
        events.UnarmedAnswer(JOB, "a1"),
        (
            "ERROR job req-1 (veo-3): its billed call was answered without being recorded "
            "first, because the HTTP library was patched after the client's first call"
        ),
    ),
    (
        events.ClaimReleased(JOB, "HTTP 429"),
        "DEBUG job req-1 (veo-3) was not charged: HTTP 429",
    ),
    (
        events.ResultUncertain(JOB, "sent", "it broke"),
        (
            "ERROR job req-1 (veo-3) may have been charged: the outcome of its billed call is "
            "uncertain (sent): it broke. Check the usage of the account"
        ),
    ),
    (
        events.LedgerFailed(JOB, "disk full"),
        "ERROR job req-1 (veo-3): the ledger could not record what happened: disk full",
    ),
    (
        events.EntryUnreadable("req-1", "row-17", "state must be a state, got 'x'"),
        (
            "ERROR job req-1: its row in the ledger cannot be read, and is missing from a "
            "list: state must be a state, got 'x'. No billed call is made for it: correct the "
            "row, or restore the ledger from a backup"
        ),
    ),
    (
        events.EntryUnreadable("", "row-17", "NULL"),
        (
            "ERROR key row-17: its row in the ledger cannot be read, and is missing from a "
            "list: NULL. No billed call is made for it: correct the row, or restore the ledger "
            "from a backup"
        ),
    ),
    (
        events.SubmitDiscarded(
            attrs.evolve(JOB, key="row-17"), attrs.evolve(JOB, request_id="req-2")
        ),
        (
            "INFO job req-1 (veo-3) already has the key row-17: job req-2 of the same key is "
            "never fetched, and so never billed"
        ),
    ),
    (
        events.VideoSaved("req-1", "a.mp4", 1234),
        "DEBUG a video of job req-1 was saved to a.mp4 (1234 bytes)",
    ),
    (
        events.WaitEnded(JOB, 7, 1.25),
        "DEBUG job req-1 (veo-3): a wait of 1.2 s ended with its result",
    ),
    (
        events.WaitEnded(JOB, 7, 5.0, "JobTimeoutError", "it is still running"),
        "INFO job req-1 (veo-3): a wait of 5.0 s ended: JobTimeoutError: it is still running",
    ),
    (
        events.CallEnded(
            call="status",
            method="GET",
            host="h",
            port=443,
            seconds=0.25,
            job=JOB,
            status_code=200,
            status="IN_QUEUE",
        ),
        "DEBUG GET status of job req-1 (veo-3) at h: HTTP 200 after 0.250 s: IN_QUEUE",
    ),
    (
        events.CallEnded(
            call="submit", method="POST", host="h", port=443, seconds=3, error="ReadTimeout"
        ),
        "DEBUG POST submit at h: no response after 3.000 s: ReadTimeout",
    ),
    (
        events.CallRetried(call="submit", cause="HTTP 502", delay=1.5),
        "DEBUG the submit failed at no cost and is sent again in 1.5 s: HTTP 502",
    ),
    (
        events.CallRetried(call="content", cause="it broke", delay=0, job=JOB),
        "DEBUG the content of job req-1 failed at no cost and is sent again in 0.0 s: it broke",
    ),
    (
        events.JobEnded(job=JOB, status="COMPLETED", seconds=73.25, polls=14, fetched=True),
        "INFO job req-1 (veo-3): COMPLETED after 73.2 s and 14 polls; its result is paid for",
    ),
    (
        events.JobEnded(job=JOB, status="COMPLETED", seconds=3, polls=0, fetched=True),
        "INFO job req-1 (veo-3): COMPLETED; its result is paid for",
    ),
    (
        events.JobEnded(job=JOB, status="COMPLETED", seconds=3, polls=1, fetched=False),
        (
            "INFO job req-1 (veo-3): COMPLETED after 3.0 s and 1 poll; its result was not "
            "asked for"
        ),
    ),
    (
        events.JobEnded(
            job=JOB, status="COMPLETED", seconds=3, polls=2, fetched=False, error="LedgerError"
        ),
        (
            "INFO job req-1 (veo-3): COMPLETED after 3.0 s and 2 polls; its result was not "
            "received: LedgerError"
        ),
    ),
    (
        events.JobEnded(
            job=JOB, status="FAILED", seconds=3, polls=2, fetched=False, error="nsfw"
        ),
        "INFO job req-1 (veo-3): FAILED after 3.0 s and 2 polls, not billed: nsfw",
    ),
]


@pytest.mark.parametrize(
    ("event", "line"), SENTENCES, ids=[type(event).__name__ for event, _ in SENTENCES]
)
def test_record_is_logged_as_a_sentence(
    event: Event, line: str, debug: pytest.LogCaptureFixture
) -> None:
    Hooks([logging_hook]).emit(event)

    assert [line] == lines(debug)


@pytest.mark.parametrize("event", [events.StatusPolled(JOB, "X"), events.WaitStarted(JOB, 7)])
def test_record_that_another_line_tells_is_not_logged(
    event: Event, debug: pytest.LogCaptureFixture
) -> None:
    logging_hook(event)

    assert [] == lines(debug)


def test_every_kind_of_record_has_a_sentence() -> None:
    silent = {events.Event, events.StatusPolled, events.WaitStarted}
    kinds = {getattr(events, name) for name in events.__all__}
    kinds = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Event)}

    assert kinds - silent == {type(event) for event, _ in SENTENCES}


@pytest.mark.parametrize("word", ["\n", "\r", "\x1b[2J", "\x85", "\u2028", "\u202e", "\x00"])
def test_text_from_elsewhere_cannot_forge_a_line(
    word: str, debug: pytest.LogCaptureFixture
) -> None:
    logging_hook(events.LedgerFailed(JOB, f"disk{word}INFO forged" + "x" * 3000))
    (line,) = lines(debug)

    assert line.isprintable()
    assert len(line) < 2200


def test_log_record_has_fields_for_filters(debug: pytest.LogCaptureFixture) -> None:
    logging_hook(events.JobSubmitted(JOB, "h"))
    logging_hook(events.PollingPaused(3))
    found = [
        {name: value for name, value in vars(record).items() if name.startswith("modelmax_")}
        for record in debug.records
    ]

    assert [
        {
            "modelmax_event": "JobSubmitted",
            "modelmax_job": "req-1",
            "modelmax_model": "veo-3",
        },
        {"modelmax_event": "PollingPaused"},
    ] == found
    assert pickle.loads(pickle.dumps(debug.records[0].args)) == debug.records[0].args


@pytest.mark.anyio
@in_virtual_time
async def test_job_has_two_lines_at_info(
    emulator: Emulator, info: pytest.LogCaptureFixture
) -> None:
    emulator.script(TEN_SECONDS)

    async with in_process(emulator, poll=STEADY) as client:
        job = await client.submit("A reef", key="row-17")
        await asyncio.gather(client.wait_for(job), client.wait_for(job))

    first, second = lines(info)

    assert f"INFO job {job.request_id} (veo-3) was submitted to 127.0.0.1, key row-17" == first
    assert re.fullmatch(
        re.escape(f"INFO job {job.request_id} (veo-3): COMPLETED after ")
        + r"1\d\.\d s and \d polls; its result is paid for",
        second,
    )


@pytest.mark.anyio
@in_virtual_time
async def test_failed_job_says_so_at_info(
    emulator: Emulator, info: pytest.LogCaptureFixture
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="nsfw\nERROR"))

    async with in_process(emulator) as client:
        with pytest.raises(JobFailedError):
            await client.wait_for(request_id)
        with pytest.raises(JobFailedError):
            await client.result(request_id)

    assert [
        f"INFO job {request_id} (veo-3): FAILED after 0.0 s and 1 poll, not billed: nsfw ERROR",
        f"INFO job {request_id} (veo-3): FAILED, not billed: nsfw ERROR",
    ] == lines(info)


@pytest.mark.anyio
@in_virtual_time
async def test_result_alone_and_a_watch_are_told_at_info(
    emulator: Emulator, info: pytest.LogCaptureFixture
) -> None:
    request_id = emulator.add_job()
    start = f"INFO job {request_id} (veo-3): COMPLETED"

    async with in_process(emulator) as client:
        assert ["COMPLETED"] == [report.status async for report in client.watch(request_id)]
        await client.result(request_id)

    assert [
        f"{start} after 0.0 s and 1 poll; its result was not asked for",
        f"{start}; its result is paid for",
    ] == lines(info)


@pytest.mark.anyio
@in_virtual_time
async def test_wait_that_times_out_is_told_and_a_cancelled_one_is_not(
    emulator: Emulator, info: pytest.LogCaptureFixture
) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=1000))

    async with in_process(emulator) as client:
        with pytest.raises(JobTimeoutError):
            await client.wait_for(request_id, timeout=5)
        task = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    (line,) = lines(info)

    assert line.startswith(f"INFO job {request_id} (veo-3): a wait of 5.0 s ended: JobTimeout")


@pytest.mark.anyio
@in_virtual_time
async def test_every_call_has_a_line_at_debug(
    emulator: Emulator, debug: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    emulator.script(TEN_SECONDS)
    emulator.fault("submit", Fault.error(429))
    emulator.fault("status", Fault.error(502))
    emulator.fault("status", Fault.garble())
    emulator.fault("result", Fault.error(503))
    emulator.fault("content", Fault.error(502))

    async with in_process(emulator, poll=STEADY) as client:
        result = await client.generate("A reef")
        await client.download(result, tmp_path)

    calls = [line.split(" after ")[0] for line in lines(debug) if " at 127.0.0.1: " in line]
    of_job = f"of job {result.request_id} (veo-3) at 127.0.0.1: HTTP"
    counted = {
        call: sum(line.startswith(f"DEBUG {call}") for line in calls)
        for call in ("POST submit", "GET status", "GET result", "GET content")
    }

    assert len(emulator.requests) == len(calls)
    assert {"POST submit": 2, "GET result": 2, "GET content": 2} == {
        call: count for call, count in counted.items() if call != "GET status"
    }
    assert {f"DEBUG GET content {of_job} 502", f"DEBUG GET content {of_job} 200"} <= set(calls)
    assert f"DEBUG GET result {of_job} 503" in calls
    assert any(line.endswith(": InvalidResponseError") for line in lines(debug))
    assert any(line.endswith(": IN_PROGRESS") for line in lines(debug))
    assert 1 == sum("was charged" in line for line in lines(debug))


@pytest.mark.anyio
@in_virtual_time
async def test_hook_that_logs_doubles_no_line(
    emulator: Emulator, debug: pytest.LogCaptureFixture
) -> None:
    async with in_process(emulator, hooks=[logging_hook]) as client:
        await client.generate("A reef")

    assert len(set(lines(debug))) == len(lines(debug)) > 4


@pytest.mark.anyio
async def test_no_logger_shows_the_key_or_a_signed_url(
    emulator: Emulator, url: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    emulator.script(JobScript(data=SIGNED))
    emulator.fault("content", Fault.error(502), times=2)
    emulator.fault("status", Fault.error(401, message=f"your key {KEY} is bad"))
    out = io.StringIO()
    LOGGER.addHandler(logging.StreamHandler(out))

    async with on_socket(url, retry=RetryPolicy(attempts=2, initial=0.01)) as client:
        result = await client.result(await client.submit("A reef"))
        with pytest.raises(DownloadError):
            await client.download(result, tmp_path)
        with pytest.raises(Exception, match="sk-"):
            await client.status(result.request_id)

    shown = caplog.text + out.getvalue() + json.dumps([str(r.args) for r in caplog.records])

    assert {"modelmax_async", "httpcore.http11"} <= {record.name for record in caplog.records}
    assert all(word in shown for word in ("GET status", "videos.invalid", "HTTP 502"))
    assert KEY not in shown
    assert "SECRET" not in shown
    assert "sig=" not in shown


# --- MODELMAX_LOG ---------------------------------------------------------------------------


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The root of a program that has not configured logging; pytest's own has handlers."""
    bare = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(LOGGER, "parent", bare)
    return bare


@pytest.fixture(autouse=True)
def _no_value_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_refused", set())


def make_client() -> AsyncQueueClient:
    return AsyncQueueClient(api_key=KEY)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("value", "shown"), [("debug", 2), ("DEBUG ", 2), ("Info", 1), ("", 0), (" ", 0)]
)
def test_variable_writes_the_log_to_standard_error(
    value: str, shown: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELMAX_LOG", value)
    make_client()
    make_client()
    logging_hook(events.JobSubmitted(JOB, "h"))
    logging_hook(events.ResultStored(JOB, "a1"))
    found = capsys.readouterr().err.splitlines()

    assert shown == len(found)
    assert all(re.match(r"\d{4}-.* (INFO|DEBUG) modelmax_async: job req-1 ", x) for x in found)


@pytest.mark.usefixtures("root")
def test_level_that_the_program_sets_afterwards_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMAX_LOG", "debug")
    make_client()
    LOGGER.setLevel(logging.ERROR)
    make_client()

    assert logging.ERROR == LOGGER.level


@pytest.mark.parametrize("where", ["root", "modelmax_async"])
@pytest.mark.parametrize("first", [True, False], ids=["configured before", "and after"])
def test_handler_of_the_application_gets_the_lines_alone(
    root: logging.Logger,
    where: str,
    first: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MODELMAX_LOG", "debug")
    out = io.StringIO()
    logger = root if where == "root" else LOGGER
    if first:
        logger.addHandler(logging.StreamHandler(out))
    make_client()
    if not first:
        logger.addHandler(logging.StreamHandler(out))
    logging_hook(events.ResultStored(JOB, "a1"))

    assert "" == capsys.readouterr().err
    assert "job req-1 (veo-3) was charged: its result arrived\n" == out.getvalue()


def test_handlers_that_take_no_debug_line_do_not_count(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELMAX_LOG", "debug")
    mail = logging.StreamHandler(io.StringIO())
    mail.setLevel(logging.CRITICAL)
    root.addHandler(mail)
    LOGGER.addHandler(logging.NullHandler())
    make_client()
    logging_hook(events.ResultStored(JOB, "a1"))

    assert "was charged" in capsys.readouterr().err


def test_line_that_is_not_propagated_is_written_here(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELMAX_LOG", "info")
    monkeypatch.setattr(LOGGER, "propagate", False)
    root.addHandler(logging.StreamHandler(io.StringIO()))
    make_client()
    logging_hook(events.JobSubmitted(JOB, "h"))

    assert "was submitted" in capsys.readouterr().err


def test_unusable_value_is_warned_about_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MODELMAX_LOG", "verbose\n")
    make_client()
    make_client()

    assert [
        "WARNING MODELMAX_LOG must be debug or info, got 'verbose\\n': it is ignored"
    ] == lines(caplog)
    assert [] == LOGGER.handlers


@pytest.mark.usefixtures("root")
def test_standard_error_that_is_closed_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELMAX_LOG", "debug")
    make_client()
    monkeypatch.setattr(sys, "stderr", None)
    logging_hook(events.ResultStored(JOB, "a1"))

    assert sys.stderr is None


@pytest.mark.usefixtures("root")
def test_alarm_reaches_standard_error_of_a_program_without_logging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_client()
    logging_hook(events.AnswerDiscarded(JOB, "a1"))

    assert "job req-1 (veo-3) was charged twice" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("level", "shown"), [("debug", True), ("", False)])
def test_variable_shows_the_log_of_a_command(
    level: str,
    shown: bool,
    emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poll_fast(monkeypatch)
    with served(emulator) as url:
        done = run(
            *("generate", "A reef", "--model", "veo-3", "--ledger", str(tmp_path / "l.db")),
            MODELMAX_API_BASE_URL=url,
            MODELMAX_LOG=level,
        )
    log = [line for line in done.stderr.splitlines() if " modelmax_async: " in line]

    assert 0 == done.exit_code
    assert "1 job: 1 done" in done.stderr
    assert shown == bool(log) == any(": HTTP 202 after " in line for line in log)
    assert "modelmax_async" not in done.stdout


@pytest.mark.usefixtures("root")
def test_command_reports_an_uncertain_job_once(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll_fast(monkeypatch)
    emulator.fault("result", Fault.drop_after())
    with served(emulator) as url:
        done = run(
            *("generate", "A reef", "--model", "veo-3", "--ledger", str(tmp_path / "l.db")),
            MODELMAX_API_BASE_URL=url,
        )

    assert 3 == done.exit_code
    assert "Check the usage of the account" not in done.stderr


def test_wait_that_is_dropped_after_its_loop_ended_is_told_too(
    debug: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.new_event_loop()

    wait = Wait(Hooks(), JOB)

    async def begin() -> None:
        wait.begin()

    loop.run_until_complete(begin())
    loop.close()
    wait.end(GeneratorExit())
    wait.end()

    (line,) = lines(debug)

    assert re.fullmatch(
        r"DEBUG job req-1 \(veo-3\): a wait of \d\.\d s ended: GeneratorExit", line
    )

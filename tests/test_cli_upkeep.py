"""The commands on a ledger: lists, downloads, decisions about uncertain jobs, pruning."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cli_support import poll_fast, records, run, served

from modelmax_async.emulator import Emulator, Fault, JobScript

MODEL = ("--model", "veo-3")


@pytest.fixture
def ledger(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """The option for a fresh ledger, for commands that reach the emulator."""
    poll_fast(monkeypatch)
    with served(emulator) as address:
        monkeypatch.setenv("MODELMAX_API_BASE_URL", address)
        yield ("--ledger", str(tmp_path / "runs.db"))


def paid(ledger: tuple[str, str], *prompts: str) -> list[str]:
    """Return the ids of jobs whose results are stored, and not saved."""
    ids = run("submit", *prompts, *MODEL, *ledger).stdout.split()
    run("gather", *ids, *ledger)
    return ids


@pytest.fixture
def doubtful(emulator: Emulator, ledger: tuple[str, str]) -> str:
    """The id of a job whose billed call has an uncertain outcome."""
    emulator.fault("result", Fault.drop_after())
    return paid(ledger, "A reef")[0]


def test_pending_lists_the_jobs_that_have_not_ended(ledger: tuple[str, str]) -> None:
    ids = run("submit", "A reef", "Rain", *MODEL, *ledger).stdout.split()
    done = run("pending", *ledger, MODELMAX_API_KEY="")
    as_json = run("pending", *ledger, "--json")
    rows = [line.split("\t") for line in done.stdout.splitlines()]

    assert ids == [row[0] for row in rows]
    assert [4, 4] == [len(row) for row in rows]
    assert [(name, "veo-3") for name in ids] == [
        (record["request_id"], record["model"]) for record in records(as_json.stdout)
    ]


def test_damaged_row_is_logged_and_hides_no_other(
    ledger: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = run("submit", "A reef", "Rain", *MODEL, *ledger).stdout.split()
    with closing(sqlite3.connect(ledger[1])) as db, db:
        db.execute("UPDATE entries SET lease = 'long' WHERE request_id = ?", (other,))
    done = run("pending", *ledger)

    assert [one] == [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert f"job {other}: its row in the ledger cannot be read" in caplog.text
    assert 0 == done.exit_code


def test_stored_lists_the_jobs_that_are_paid_for(
    ledger: tuple[str, str], tmp_path: Path
) -> None:
    one, other = paid(ledger, "A reef", "Rain")
    saved = run("download", one, *ledger, "--directory", str(tmp_path / "out"))
    stored = run("stored", *ledger, "--json")
    unsaved = run("stored", "--unsaved", *ledger, "--json")

    assert 0 == saved.exit_code
    assert {one, other} == {record["request_id"] for record in records(stored.stdout)}
    assert [other] == [record["request_id"] for record in records(unsaved.stdout)]


def test_download_never_bills(
    emulator: Emulator, ledger: tuple[str, str], tmp_path: Path
) -> None:
    paid(ledger, "A reef")
    (request_id,) = run("submit", "Rain", *MODEL, *ledger).stdout.split()
    done = run("download", request_id, *ledger, "--directory", str(tmp_path / "out"))

    assert 2 == done.exit_code
    assert (
        f"Error: the ledger has no result of job {request_id}: modelmax wait {request_id} "
        "fetches it, which is billed\n"
    ) == done.stderr
    assert 1 == emulator.billed_total


def test_download_of_an_unreadable_result_is_an_error(
    emulator: Emulator, ledger: tuple[str, str], tmp_path: Path
) -> None:
    emulator.script(JobScript(data=[]))
    (request_id,) = paid(ledger, "A reef")
    done = run("download", request_id, *ledger, "--directory", str(tmp_path / "out"))

    assert 1 == done.exit_code
    assert "could not be understood" in done.stderr


def test_unresolved_lists_what_happened(ledger: tuple[str, str], doubtful: str) -> None:
    (row,) = [line.split("\t") for line in run("unresolved", *ledger).stdout.splitlines()]
    (record,) = records(run("unresolved", *ledger, "--json").stdout)

    assert [doubtful, "veo-3"] == row[:2]
    assert row[4].startswith("sent: ")
    assert (doubtful, "sent") == (record["request_id"], record["phase"])


def test_resolve_asks_before_it_may_pay_again(
    emulator: Emulator, ledger: tuple[str, str], doubtful: str, tmp_path: Path
) -> None:
    command = ("resolve", doubtful, "--fetch-again", *ledger, "--directory", str(tmp_path))
    refused = run(*command, stdin="n\n")
    before = emulator.billed_total
    agreed = run(*command, stdin="y\n")

    assert (1, 0) == (refused.exit_code, agreed.exit_code)
    assert "may charge you a second time" in refused.stderr
    assert refused.stderr.endswith(
        "Error: not confirmed, nothing was changed: answer y, or pass --yes\n"
    )
    assert (1, 2) == (before, emulator.billed_total)
    assert Path(agreed.stdout.split("\t")[1].strip()).is_file()
    assert "" == run("unresolved", *ledger).stdout


def test_resolve_gives_a_job_up(
    emulator: Emulator, ledger: tuple[str, str], doubtful: str
) -> None:
    done = run("resolve", doubtful, "--forget", "--yes", *ledger)

    assert (0, "") == (done.exit_code, done.stdout)
    assert f"Job {doubtful} is given up.\n" == done.stderr
    assert "" == run("unresolved", *ledger).stdout
    assert 1 == emulator.billed_total


def test_resolve_asks_before_a_job_is_given_up(ledger: tuple[str, str], doubtful: str) -> None:
    done = run("resolve", doubtful, "--forget", *ledger, stdin="")

    assert 1 == done.exit_code
    assert "its video is lost" in done.stderr
    assert doubtful in run("unresolved", *ledger).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resolve", "reef"], "pass either --fetch-again or --forget"),
        (["resolve", "reef", "--forget", "--fetch-again"], "pass either --fetch-again or"),
        (["resolve", "reef", "--forget"], "Error: job reef is not among the unresolved ones\n"),
        (["download", "--directory", "out"], "pass either ids or --unsaved"),
        (["download", "reef", "--unsaved", "--directory", "out"], "pass either ids or"),
        (["prune", "--older-than", "soon"], "must be an age such as 12h or 30d, got 'soon'"),
        (["prune"], "Missing option '--older-than'"),
    ],
)
def test_wrong_usage_exits_2(
    ledger: tuple[str, str], arguments: list[str], message: str
) -> None:
    paid(ledger, "A reef")
    done = run(*arguments, *ledger)

    assert 2 == done.exit_code
    assert message in done.stderr


def test_usage_adds_up_what_is_paid_for(
    emulator: Emulator, ledger: tuple[str, str], tmp_path: Path
) -> None:
    emulator.script(*[JobScript(usage={"video_seconds": seconds}) for seconds in (8, 2.5)])
    paid(ledger, "A reef", "Rain")
    done = run("usage", *ledger, MODELMAX_API_KEY="")
    (record,) = records(run("usage", *ledger, "--json").stdout)
    table = run("usage", *ledger, FORCE_COLOR="1", NO_COLOR="1").stdout

    assert [
        ["model", "results", "videos", "seconds"],
        ["veo-3", "2", "2", "10.5"],
        ["total", "2", "2", "10.5"],
    ] == [line.split() for line in table.splitlines()]
    assert "veo-3\t2\t2\t10.5\ntotal\t2\t2\t10.5\n" == done.stdout
    assert (0, "") == (done.exit_code, done.stderr)
    assert (2, 10.5) == (record["by_model"]["veo-3"]["results"], record["seconds"])


def test_usage_tells_what_it_does_not_contain(
    emulator: Emulator, ledger: tuple[str, str], doubtful: str, tmp_path: Path
) -> None:
    emulator.script(JobScript(data=[]), JobScript(usage={}), JobScript())
    *_, last = paid(ledger, "unreadable", "without seconds", "dropped")
    run("download", last, *ledger, "--directory", str(tmp_path))
    run("prune", "--older-than", "0s", *ledger)
    done = run("usage", *ledger)

    assert "veo-3\t1\t1\t0\ntotal\t1\t1\t0\n" == done.stdout
    assert [
        "results that state no seconds: 1",
        "paid results that could not be understood, not counted: 1",
        "paid results that are no longer in the ledger, not counted: 1",
        "jobs of uncertain charge, not counted: 1",
    ] == done.stderr.splitlines()


@pytest.mark.parametrize("command", ["pending", "stored", "unresolved", "usage"])
def test_ledger_that_does_not_exist_is_an_error(command: str, tmp_path: Path) -> None:
    """A typing error must not look like an empty ledger, nor make one."""
    path = tmp_path / "none.db"
    done = run(command, "--ledger", str(path))

    assert 2 == done.exit_code
    assert f"Error: the ledger {path} does not exist\n" == done.stderr
    assert not path.exists()


def test_prune_drops_what_is_saved_and_old(ledger: tuple[str, str], tmp_path: Path) -> None:
    one, other = paid(ledger, "A reef", "Rain")
    run("download", one, *ledger, "--directory", str(tmp_path / "out"))
    young = run("prune", "--older-than", "2w", *ledger)
    old = run("prune", "--older-than", "0s", *ledger, "--json")
    left = records(run("stored", *ledger, "--json").stdout)

    assert "results dropped: 0\n" == young.stdout
    assert [{"pruned": 1}] == records(old.stdout)
    assert [other] == [record["request_id"] for record in left]

"""One row that no ledger writes hides no other, is reported, and is never fetched."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support import ORIGIN, in_process, in_virtual_time, paid_body

from modelmax_async import (
    Job,
    LedgerError,
    ModelMaxError,
    SQLiteLedger,
    SubmitUncertainError,
)
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.events import EntryUnreadable, Event
from modelmax_async.ledger import (
    Arm,
    Bind,
    Claim,
    Entries,
    Key,
    MarkSaved,
    Move,
    Remember,
    Reserve,
    Store,
    SubmitKey,
    Uncertain,
)

pytestmark = [pytest.mark.anyio, in_virtual_time]
INF = float("inf")
#: What no ledger writes into these columns; each with the words of its report.
DAMAGE: list[tuple[str, Any, str]] = [
    ("model", "", "model must be non-empty"),
    ("model", b"veo-3", "model must be a string, got bytes"),
    ("status_url", b"\xff", "status_url must be a string"),
    ("response_url", None, "response_url must be a string"),
    ("submitted_at", "noon", "submitted_at must be None or a number"),
    ("submit_key", "a\nb", "key must not contain control characters"),
    ("state", "sold", "state must be a state of a job, got 'sold'"),
    ("state", None, "state must be a state of a job, got None"),
    ("since", "noon", "since must be a number of seconds since the epoch, got 'noon'"),
    ("since", INF, "since must be a number of seconds since the epoch, got inf"),
    ("since", -1, "since must be a number of seconds since the epoch, got -1"),
    ("owner", b"me", "owner must be text, got b'me'"),
    ("attempt", b"\x00", r"attempt must be text, got b'\x00'"),
    ("lease_until", "later", "lease_until must be a number, got 'later'"),
    ("lease", None, "lease must be a number, got None"),
    ("resting", "sold", "resting must be a state of a job, got 'sold'"),
    ("decided", b"x", "decided must be text, got b'x'"),
    ("phase", "lost", "phase must be a phase of a call, got 'lost'"),
    ("cause", b"x", "cause must be text, got b'x'"),
    ("error", b"x", "error must be text, got b'x'"),
    ("acknowledged", 2, "acknowledged must be 0 or 1, got 2"),
    ("acknowledged", "yes", "acknowledged must be 0 or 1, got 'yes'"),
    ("saved_at", "noon", "saved_at must be a number of seconds since the epoch, got 'noon'"),
    ("body", "text", "body must be bytes, got 'text'"),
    ("owner", "me", "it is known, but has an owner"),
    ("resting", "stored", "it is known, but its last attempt began from stored"),
    ("body", b"{}", "it is known, but has a body"),
    ("phase", "sent", "it is known, but has a phase"),
    ("cause", "it broke", "it is known, but has a cause"),
    ("decided", "a1", "it is known, but has a decided"),
    ("saved_at", 1.7e9, "it is known, but has a saved_at"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def loosen(path: Path) -> None:
    """Take the constraints off the tables, as whoever can write to the file can."""
    with closing(sqlite3.connect(path)) as db, db:
        for table in ("entries", "submissions"):
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            key = "request_id" if table == "entries" else "submit_key"
            db.execute(f"CREATE TABLE loose ({', '.join(names)}, UNIQUE (origin, {key}))")
            db.execute(f"INSERT INTO loose SELECT * FROM {table}")  # noqa: S608 - constants
            db.execute(f"DROP TABLE {table}")
            db.execute(f"ALTER TABLE loose RENAME TO {table}")


def damage(path: Path, name: str, column: str, value: Any, table: str = "entries") -> None:
    """Change one column of a row."""
    loosen(path)
    key = "request_id" if table == "entries" else "submit_key"
    query = f"UPDATE {table} SET {column} = ? WHERE {key} = ?"  # noqa: S608 - constants
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(query, (value, name)).rowcount == 1


async def left(path: Path, request_id: str, *moves: Move) -> None:
    """Leave a job in a ledger file that is closed."""
    ledger = SQLiteLedger(path)
    for move in moves:
        await ledger.apply(Key(ORIGIN, request_id), move)
    await ledger.aclose()


def job(request_id: str) -> Job:
    return make_job("veo-3", request_id)


def reports(heard: list[Event]) -> list[EntryUnreadable]:
    return [event for event in heard if isinstance(event, EntryUnreadable)]


@pytest.mark.parametrize("damaged", DAMAGE, ids=lambda damaged: f"{damaged[0]}-{damaged[1]}")
async def test_damaged_row_is_left_out_reported_and_not_fetched(
    path: Path,
    emulator: Emulator,
    damaged: tuple[str, Any, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    column, value, cause = damaged
    one, bad, other = (emulator.add_job(name) for name in ("one", "bad", "other"))
    for name in (one, bad, other):
        await left(path, name, Remember(job(name)))
    damage(path, bad, column, value)
    heard: list[Event] = []

    async with in_process(emulator, ledger=SQLiteLedger(path), hooks=[heard.append]) as client:
        listed = await client.pending()
        await client.stored()
        unresolved = await client.unresolved()
        with pytest.raises(LedgerError, match="cannot be read") as caught:
            await client.wait_for(bad, timeout=60)
        for act in (client.result(bad, accept_second_charge=True), client.forget(bad)):
            with pytest.raises(LedgerError, match="row of job bad"):
                await act
        await client.gather_results([one, other])

    assert [one, other] == [each.request_id for each in listed]
    assert [] == unresolved
    assert cause in str(caught.value)
    assert str(path) in str(caught.value)
    assert {"bad"} == {report.request_id for report in reports(heard)}
    assert all(report.cause.startswith(cause[:40]) for report in reports(heard))
    assert "job bad: its row in the ledger cannot be read" in caplog.text
    assert {one: 1, other: 1} == emulator.billed


@pytest.mark.parametrize(
    ("column", "value"), [("state", "known"), ("state", "claimed"), ("body", None)]
)
async def test_paid_result_in_a_contradictory_row_is_not_paid_for_again(
    path: Path, emulator: Emulator, column: str, value: Any
) -> None:
    paid = emulator.add_job("paid")
    await left(path, paid, Store(job(paid), "a1", paid_body(paid)))
    damage(path, paid, column, value)

    async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
        with pytest.raises(LedgerError, match="No billed call is made for it"):
            await client.wait_for(paid)

    assert {} == emulator.billed


@pytest.mark.parametrize(
    ("column", "value"),
    [("state", "known"), ("state", "claimed"), ("resting", None), ("resting", "known")],
)
async def test_call_that_may_be_billed_is_not_released_by_a_contradictory_row(
    path: Path, emulator: Emulator, column: str, value: Any
) -> None:
    reef = emulator.add_job("reef")
    again = Claim(job(reef), "me", "a2", 10.0, accept="a1")
    begin = (Claim(job(reef), "me", "a1", 10.0), Arm("a1", 10.0))
    await left(path, reef, *begin, Uncertain("a1", "sent", "it broke"))
    if column == "resting":
        await left(path, reef, again)
    damage(path, reef, column, value)

    async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
        with pytest.raises(LedgerError, match="No billed call is made for it"):
            await client.wait_for(reef, timeout=60)

    assert {} == emulator.billed


async def test_text_that_is_not_utf_8_spoils_its_own_row_only(
    path: Path, emulator: Emulator
) -> None:
    for name in ("one", "bad"):
        await left(path, name, Remember(job(name)))
    loosen(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE entries SET cause = CAST(x'ff' AS TEXT) WHERE request_id = 'bad'")
        db.execute(
            "UPDATE entries SET request_id = CAST(x'62ff' AS TEXT) WHERE request_id = 'bad'"
        )
    heard: list[Event] = []

    async with in_process(emulator, ledger=SQLiteLedger(path), hooks=[heard.append]) as client:
        listed = await client.pending()

    assert ["one"] == [each.request_id for each in listed]
    assert ["b?"] == [report.request_id for report in reports(heard)]


async def test_usage_and_prune_pass_over_a_damaged_row(path: Path, emulator: Emulator) -> None:
    for name in ("one", "bad"):
        stored = Store(job(name), "a1", paid_body(name))
        await left(path, name, stored, MarkSaved())
    damage(path, "bad", "body", "text")
    heard: list[Event] = []

    async with in_process(emulator, ledger=SQLiteLedger(path), hooks=[heard.append]) as client:
        usage = await client.usage()
        pruned = await client.prune(timedelta(0))
        stored_jobs = await client.stored()

    assert 1 == usage.results
    assert 1 == pruned
    assert [] == stored_jobs
    assert ["body must be bytes, got 'text'"] * 3 == [each.cause for each in reports(heard)]


@pytest.mark.parametrize(
    ("column", "value", "cause"),
    [
        ("fingerprint", None, "fingerprint must be text, got None"),
        ("since", "noon", "since must be a number"),
        ("attempt", b"x", "attempt must be text"),
        ("lease", "long", "lease must be a number"),
        ("request_id", b"x", "request id must be a string"),
        ("status_url", None, "status_url must not be NULL in the row of a job"),
        ("model", None, "model must not be NULL in the row of a job"),
    ],
)
async def test_damaged_row_of_a_key_is_reported_and_nothing_is_submitted_with_it(
    path: Path, emulator: Emulator, column: str, value: Any, cause: str
) -> None:
    ledger = SQLiteLedger(path)
    for number in (1, 2):
        key = SubmitKey(ORIGIN, f"row-{number}")
        await ledger.apply(key, Reserve("f", "a1", 10.0))
        await ledger.apply(key, Bind("f", "a1", job(f"job-{number}")))
    await ledger.aclose()
    damage(path, "row-2", column, value, "submissions")
    heard: list[Event] = []

    async with in_process(emulator, ledger=SQLiteLedger(path), hooks=[heard.append]) as client:
        listed = await client.pending()
        with pytest.raises(LedgerError, match=cause):
            await client.submit("A reef", key="row-2")

    assert ["job-1"] == [each.request_id for each in listed]
    assert {("row-2", cause)} == {
        (report.key, report.cause[: len(cause)]) for report in reports(heard)
    }
    assert {} == emulator.jobs


async def test_key_that_is_no_key_is_left_out(path: Path, emulator: Emulator) -> None:
    ledger = SQLiteLedger(path)
    await ledger.apply(SubmitKey(ORIGIN, "row-1"), Bind("f", "a1", job("job-1")))
    await ledger.aclose()
    damage(path, "row-1", "submit_key", None, "submissions")
    heard: list[Event] = []

    async with in_process(emulator, ledger=SQLiteLedger(path), hooks=[heard.append]) as client:
        listed = await client.pending()

    assert [] == listed
    assert [("job-1", None)] == [(each.request_id, each.key) for each in reports(heard)]


async def test_only_the_first_hundred_damaged_rows_are_told(path: Path) -> None:
    ledger = SQLiteLedger(path)
    for number in range(120):
        await ledger.apply(Key(ORIGIN, f"job-{number}"), Remember(job(f"job-{number}")))
    await ledger.aclose()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE entries SET lease = 'long' WHERE request_id <> 'job-119'")
    found = await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()
    copy = pickle.loads(pickle.dumps(found))

    assert ["job-119"] == [entry.job.request_id for entry in found]
    assert isinstance(found, Entries)
    assert [f"job-{n}" for n in range(100)] == [each.request_id for each in found.unreadable]
    assert found == copy
    assert found.unreadable == copy.unreadable


# --- leases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["lease", "lease_until"])
@pytest.mark.parametrize("value", [INF, -INF, 1e308, -1.0, 0.0])
async def test_absurd_lease_strands_no_claim(
    path: Path, emulator: Emulator, column: str, value: float
) -> None:
    reef = emulator.add_job("reef")
    await left(path, reef, Claim(job(reef), "gone", "a1", 10.0))
    damage(path, reef, column, value)

    async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
        result = await client.wait_for(reef, timeout=120)

    assert reef == result.request_id
    assert {reef: 1} == emulator.billed


@pytest.mark.parametrize("column", ["lease", "lease_until"])
@pytest.mark.parametrize("value", [INF, -INF, 1e308])
async def test_armed_call_with_an_absurd_lease_ends_as_uncertain(
    path: Path, emulator: Emulator, column: str, value: float
) -> None:
    reef = emulator.add_job("reef")
    await left(path, reef, Claim(job(reef), "gone", "a1", 10.0), Arm("a1", 10.0))
    damage(path, reef, column, value)

    async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
        with pytest.raises(ModelMaxError, match="uncertain"):
            await client.wait_for(reef, timeout=120)
        listed = await client.unresolved()
        await client.forget(reef)

    assert [reef] == [each.job.request_id for each in listed]
    assert {} == emulator.billed


@pytest.mark.parametrize("value", [INF, 1e308])
async def test_key_with_an_absurd_lease_can_be_submitted(
    path: Path, emulator: Emulator, value: float
) -> None:
    async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
        emulator.fault("submit", Fault.drop_after())
        with pytest.raises(SubmitUncertainError):
            await client.submit("A reef", key="row-1")
    damage(path, "row-1", "lease", value, "submissions")
    damage(path, "row-1", "attempt", "gone", "submissions")

    async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
        made = await client.submit("A reef", key="row-1")

    assert "row-1" == made.key

"""Ledger files of an older schema: upgraded once, in place, without a loss."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import textwrap
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from modelmax_async import Job, LedgerEntry, LedgerError, SQLiteLedger
from modelmax_async._api.paths import make_job
from modelmax_async._models import UNFINISHED, LedgerState
from modelmax_async.ledger import Arm, Claim, Key, Look, Release, Step, columns, sqlite
from modelmax_async.ledger import sqlite_schema as schema

pytestmark = pytest.mark.anyio
FIXTURE = Path(__file__).parent / "fixtures" / "ledger_schema_1.db"
ORIGIN = "https://api.modelmax.io:443"
EVERY = frozenset(get_args(LedgerState))
PAID = (
    b'{"request_id": "stored", "status": "COMPLETED", "model": "veo-3", "data": [{"url": '
    b'"/v1/queue/veo-3/requests/content/content/0"}], "usage": {"video_seconds": 8, '
    b'"video_resolution": "720p", "video_has_audio": true}}'
)


def _was(name: str, state: LedgerState, since: float, **more: Any) -> LedgerEntry:
    return LedgerEntry(job=make_job("veo-3", name), state=state, since=since, **more)


#: The entries that the older version wrote, as this version reads them.
EXPECTED = [
    _was("known", "known", 1795513264.7140214),
    _was(
        "claimed",
        "claimed",
        1795513264.7149906,
        owner="owner",
        attempt="a1",
        lease_until=1795513274.7149906,
        resting="known",
    ),
    _was(
        "armed",
        "armed",
        1795513264.7160661,
        owner="owner",
        attempt="a2",
        lease_until=1795513274.7160661,
        resting="known",
    ),
    _was("stored", "stored", 1795513264.7172725, attempt="a3", body=PAID),
    _was("unreadable", "stored", 1795513264.718639, attempt="a4", body=b"\x80 not json"),
    _was("failed", "failed", 1795513264.7191732, error="the provider refused it"),
    _was(
        "uncertain",
        "uncertain",
        1795513264.7202237,
        attempt="a5",
        resting="uncertain",
        phase="answered",
        cause="HTTP 500 without proof of no charge",
    ),
    _was(
        "refetching",
        "claimed",
        1795513264.7216148,
        owner="owner",
        attempt="a7",
        lease_until=1795513274.7216148,
        resting="uncertain",
        phase="sent",
        cause="it broke off",
    ),
    _was("é/+=", "known", 1795513264.721916),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of a file that was written by the older version."""
    return Path(shutil.copy(FIXTURE, tmp_path / "runs.db"))


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def tables(path: Path) -> list[Any]:
    return rows(path, "SELECT name, sql FROM sqlite_master ORDER BY name")


def version(path: Path) -> int:
    return int(rows(path, "PRAGMA user_version")[0][0])


async def take(ledger: SQLiteLedger, name: str, move: Any) -> Step:
    done = await ledger.apply(Key(ORIGIN, name), move)

    assert isinstance(done, Step)
    return done


async def read(ledger: SQLiteLedger) -> list[LedgerEntry]:
    jobs = [entry.job for entry in EXPECTED]
    return [(await take(ledger, job.request_id, Look(job))).entry for job in jobs]


async def test_every_entry_of_the_older_version_is_read(path: Path) -> None:
    ledger = SQLiteLedger(path)
    found = await read(ledger)
    await ledger.aclose()

    assert [attrs.evolve(entry, lease=10.0) for entry in EXPECTED] == found
    assert 2 == version(path)
    assert 9 == rows(path, "SELECT count(*) FROM entries")[0][0]


async def test_lists_show_the_entries_of_the_older_version(path: Path) -> None:
    ledger = SQLiteLedger(path)
    unfinished = await ledger.entries(ORIGIN, UNFINISHED)
    every = await ledger.entries(ORIGIN, EVERY)
    await ledger.aclose()

    assert {
        "known": "known",
        "claimed": "known",
        "armed": "uncertain",
        "uncertain": "uncertain",
        "refetching": "uncertain",
        "é/+=": "known",
    } == {entry.job.request_id: entry.state for entry in unfinished}
    assert [entry.job for entry in EXPECTED] == [entry.job for entry in every]
    assert all(entry.acknowledged for entry in every)


async def test_uncertain_jobs_of_the_older_version_stay_uncertain(path: Path) -> None:
    """Its owners are gone: their claims are undone, their sent calls are uncertain."""
    ledger = SQLiteLedger(path)
    ends: dict[str, tuple[str, bool]] = {}
    for entry in EXPECTED:
        claim = Claim(entry.job, "me", "b", 10.0, takeover=entry.lease_until)
        done = await take(ledger, entry.job.request_id, claim)
        ends[entry.job.request_id] = (done.entry.state, done.granted)
    decided = await take(
        ledger, "uncertain", Claim(EXPECTED[6].job, "me", "c", 10.0, accept="a5")
    )
    proof = await take(ledger, "uncertain", Release("c"))
    again = await take(ledger, "uncertain", Release("a5"))
    await ledger.aclose()

    assert {
        "known": ("claimed", True),
        "claimed": ("claimed", True),
        "armed": ("uncertain", False),
        "stored": ("stored", False),
        "unreadable": ("stored", False),
        "failed": ("failed", False),
        "uncertain": ("uncertain", False),
        "refetching": ("uncertain", False),
        "é/+=": ("claimed", True),
    } == ends
    assert decided.granted
    assert ("uncertain", "uncertain") == (proof.entry.state, again.entry.state)


@pytest.mark.parametrize("state", ["claimed", "armed"])
async def test_call_in_progress_over_an_unreadable_response_rests_in_stored(
    path: Path, state: str
) -> None:
    change = "UPDATE jobs SET state = ? WHERE request_id = 'unreadable'"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(change, (state,))
    ledger = SQLiteLedger(path)
    done = await take(ledger, "unreadable", Release("a4"))
    await ledger.aclose()

    assert ("stored", b"\x80 not json") == (done.entry.state, done.entry.body)


async def test_file_is_upgraded_once(path: Path) -> None:
    first = SQLiteLedger(path)
    await read(first)
    await first.aclose()
    before = path.read_bytes(), tables(path), rows(path, "SELECT * FROM meta")

    second = SQLiteLedger(path)
    found = await read(second)
    await second.aclose()

    assert before == (path.read_bytes(), tables(path), rows(path, "SELECT * FROM meta"))
    assert [attrs.evolve(entry, lease=10.0) for entry in EXPECTED] == found


async def test_upgraded_file_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    for file in (path, tmp_path / "new.db"):
        ledger = SQLiteLedger(file)
        await ledger.entries(ORIGIN, {"known"})
        await ledger.aclose()

    assert tables(tmp_path / "new.db") == tables(path)
    assert "jobs" not in {name for name, _ in tables(path)}


async def test_every_file_gets_its_own_id(path: Path, tmp_path: Path) -> None:
    for file in (path, tmp_path / "new.db"):
        ledger = SQLiteLedger(file)
        await ledger.entries(ORIGIN, {"known"})
        await ledger.aclose()
    ids = [rows(file, "SELECT * FROM meta") for file in (path, tmp_path / "new.db")]

    assert [["ledger_id", "writes"]] * 2 == [[name for name, _ in found] for found in ids]
    assert ids[0][0] != ids[1][0]
    assert 32 == len(ids[0][0][1])


async def _program(text: str, *arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(text),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


READER = """
    import asyncio, sys
    from modelmax_async import SQLiteLedger

    async def main():
        ledger = SQLiteLedger(sys.argv[1])
        print(len(await ledger.entries("https://api.modelmax.io:443", {"known", "uncertain"})))
        await ledger.aclose()

    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(main())
"""


async def test_eight_processes_may_open_an_old_file_at_once(path: Path) -> None:
    processes = [await _program(READER, path) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        await process.stdout.readline()
    ended = await asyncio.gather(*(process.communicate(b"\n") for process in processes))

    assert [(b"6\n", b"")] * 8 == ended
    assert 2 == version(path)
    assert 2 == len(rows(path, "SELECT * FROM meta"))


KILLED = """
    import asyncio, os, signal, sqlite3, sys
    from modelmax_async import SQLiteLedger

    connect = sqlite3.connect

    def traced(*arguments, **options):
        db = connect(*arguments, **options)
        db.set_trace_callback(die)
        return db

    def die(sql):
        if sql.strip().startswith(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    sqlite3.connect = traced
    asyncio.run(SQLiteLedger(sys.argv[1]).entries("x", {"known"}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on this platform")
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE meta",
        "INSERT INTO entries",
        "DROP TABLE jobs",
        "INSERT INTO meta",
        "COMMIT",
    ],
)
async def test_crash_during_the_upgrade_leaves_a_file_that_is_upgraded_next_time(
    path: Path, statement: str
) -> None:
    process = await _program(KILLED, path, statement)
    _, errors = await process.communicate()
    old = rows(path, "SELECT * FROM jobs ORDER BY rowid")
    left = version(path), [name for name, _ in tables(path)]

    ledger = SQLiteLedger(path)
    found = await read(ledger)
    await ledger.aclose()

    assert (-9, b"") == (process.returncode, errors)
    assert rows(FIXTURE, "SELECT * FROM jobs ORDER BY rowid") == old
    assert (1, [name for name, _ in tables(FIXTURE)]) == left
    assert [attrs.evolve(entry, lease=10.0) for entry in EXPECTED] == found


@pytest.mark.parametrize("newer", [3, 99])
async def test_file_of_a_newer_schema_is_refused_and_left_unchanged(
    path: Path, newer: int
) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA user_version = {newer}")
    before = path.read_bytes()
    ledger = SQLiteLedger(path)

    with pytest.raises(LedgerError, match=f"has schema {newer}.* supports 2.*upgrade modelmax"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()

    assert before == path.read_bytes()


async def test_process_of_the_older_version_that_has_the_file_open_is_refused(
    path: Path,
) -> None:
    """It would write rows that lack columns, and release calls that may be billed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("SELECT * FROM jobs").fetchall()
        ledger = SQLiteLedger(path)
        await ledger.entries(ORIGIN, {"known"})
        await ledger.aclose()

        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            old.execute("UPDATE jobs SET state = 'known' WHERE request_id = 'uncertain'")


async def test_foreign_database_is_not_taken_for_a_ledger(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as db, db:
        db.execute("CREATE TABLE entries (a, b)")
    ledger = SQLiteLedger(tmp_path / "app.db")

    with pytest.raises(LedgerError, match="already exists"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()

    assert ["entries"] == [name for name, _ in tables(tmp_path / "app.db")]


def _write(db: sqlite3.Connection, row: tuple[object, ...]) -> None:
    db.execute(sqlite._WRITE, row)


@pytest.mark.parametrize("state", sorted(EVERY))
@pytest.mark.parametrize("acknowledged", [True, False])
async def test_every_field_of_every_state_is_read_back_equal(
    tmp_path: Path, state: LedgerState, *, acknowledged: bool
) -> None:
    job = Job("veo-3", "é/+=", "/status", "/response")
    entry = LedgerEntry(
        job=job,
        state=state,
        since=1.1,
        owner="o",
        attempt="a",
        lease_until=2.2,
        lease=3.3,
        resting=state,
        decided="d",
        phase="answered",
        cause="c",
        error="e",
        body=b"\x00\xff",
        acknowledged=acknowledged,
    )
    if state == "known":  # it has no trace of a billed call
        entry = LedgerEntry(job=job, state=state, since=1.1, acknowledged=acknowledged)
    other = attrs.evolve(
        entry, job=attrs.evolve(job, model="m", status_url="/s"), owner=entry.owner and "p"
    )
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await ledger.entries(ORIGIN, EVERY)
    found = []
    for written in (entry, other):
        row = (ORIGIN, *columns.row_of(written))
        await ledger._thread.run(partial(_write, row=row))
        found.append((await take(ledger, "é/+=", Look(job))).entry)
    await ledger.aclose()

    assert [entry, other] == found
    assert acknowledged is found[0].acknowledged  # a bool, not an int
    assert {field.name for field in attrs.fields(LedgerEntry)} == {
        *columns._STATE,
        "job",
        "body",
    }


@pytest.mark.parametrize(
    "change",
    [
        "state = 'sold'",
        "resting = 'sold'",
        "phase = 'lost'",
        "acknowledged = 2",
        "since = NULL",
    ],
)
async def test_table_refuses_rows_that_could_not_be_read(tmp_path: Path, change: str) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await take(ledger, "a", Claim(make_job("veo-3", "a"), "me", "b", 10.0))
    await ledger.aclose()

    with (
        closing(sqlite3.connect(tmp_path / "runs.db")) as db,
        pytest.raises(sqlite3.IntegrityError),
    ):
        db.execute(f"UPDATE entries SET {change}")  # noqa: S608 - constants


async def test_moves_do_not_change_the_other_columns(tmp_path: Path) -> None:
    """They hold when the job was submitted, its key, and when its videos were saved."""
    ledger = SQLiteLedger(tmp_path / "runs.db")
    job = make_job("veo-3", "a")
    await take(ledger, "a", Claim(job, "me", "b", 10.0))
    beside = "SET submitted_at = 1.5, submit_key = 'row-17', saved_at = 2.5, resting = 'stored'"
    await ledger._thread.run(lambda db: db.execute(f"UPDATE entries {beside}").rowcount)
    await take(ledger, "a", Arm("b", 10.0))
    await ledger.aclose()

    found = rows(tmp_path / "runs.db", "SELECT submitted_at, submit_key, saved_at FROM entries")

    assert [(1.5, "row-17", 2.5)] == found


@pytest.mark.parametrize(
    "insert",
    [
        """INSERT INTO submissions (origin, submit_key, fingerprint, since, lease_until, lease)
        VALUES (1, 2, 3, 4, 5, 6)""",
        """INSERT INTO durations (origin, model, version, since, record)
        VALUES (1, 2, 3, 4, 5)""",
    ],
)
async def test_keys_and_durations_have_one_row_each(tmp_path: Path, insert: str) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await ledger.entries(ORIGIN, EVERY)
    await ledger.aclose()

    with closing(sqlite3.connect(tmp_path / "runs.db")) as db, db:
        db.execute(insert)
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            db.execute(insert)


async def test_lists_of_unfinished_jobs_do_not_read_the_finished(path: Path) -> None:
    ledger = SQLiteLedger(path)
    plans = await ledger._thread.run(
        lambda db: [
            db.execute(f"EXPLAIN QUERY PLAN {query}", ("x",)).fetchall()[0][3]
            for query in (sqlite._LIST_UNFINISHED, sqlite._LIST)
        ]
    )
    seen: list[str] = []
    await ledger._thread.run(lambda db: db.set_trace_callback(seen.append))
    await ledger.entries(ORIGIN, {"known"})
    await ledger.entries(ORIGIN, UNFINISHED)
    await ledger.entries(ORIGIN, {"known", "delivered"})
    await ledger.entries(ORIGIN, {"abandoned"})
    await ledger.aclose()

    asked = [schema.UNFINISHED in sql for sql in seen if sql.startswith("SELECT")]

    assert "unfinished" in plans[0]
    assert "unfinished" not in plans[1]
    assert [True, True, False, False] == asked
    assert all(f"'{state}'" in schema.UNFINISHED for state in UNFINISHED)
    assert len(UNFINISHED) == schema.UNFINISHED.count(",") + 1

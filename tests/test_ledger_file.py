"""The file of a ledger: created once, noticed when replaced, closed by its own thread."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelmax_async import LedgerError, SQLiteLedger
from modelmax_async._api.paths import make_job
from modelmax_async.ledger import (
    Key,
    Remember,
    Step,
    Store,
    SubmitStep,
    sqlite_file,
    sqlite_schema,
    sqlite_thread,
)
from modelmax_async.ledger.sqlite_file import SQLiteFile

pytestmark = pytest.mark.anyio
ORIGIN = "https://api.modelmax.io:443"
Lets = Callable[[SQLiteLedger], Awaitable[None]]


async def remember(ledger: SQLiteLedger, name: str) -> Step | SubmitStep | None:
    return await ledger.apply(Key(ORIGIN, name), Remember(make_job("veo-3", name)))


async def store(ledger: SQLiteLedger, name: str) -> Step | SubmitStep | None:
    return await ledger.apply(Key(ORIGIN, name), Store(make_job("veo-3", name), "a", b"{}"))


async def names(ledger: SQLiteLedger) -> list[str]:
    found = await ledger.entries(ORIGIN, {"known", "stored"})
    return [entry.job.request_id for entry in found]


def running(ledger: SQLiteLedger) -> threading.Thread:
    thread = ledger._thread._thread

    assert thread is not None
    return thread


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SQLiteLedger]:
    """A ledger that has been used, and is closed at the end."""
    ledger = SQLiteLedger(path)
    await store(ledger, "a")
    yield ledger
    await ledger.aclose()


# --- replaced files ---------------------------------------------------------------------------


async def _goes_on(ledger: SQLiteLedger) -> None:
    """The file stays open."""


async def _closes(ledger: SQLiteLedger) -> None:
    await ledger.aclose()


async def _idles(ledger: SQLiteLedger) -> None:
    """The thread has ended, as it does after a second without work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_thread, "IDLE", 0.01)
        await remember(ledger, "a")
        await asyncio.to_thread(running(ledger).join)


lets = pytest.mark.parametrize("between", [_goes_on, _closes, _idles])
lets_go = pytest.mark.parametrize("between", [_closes, _idles])


@lets
async def test_missing_file_is_noticed_and_not_created_again(
    ledger: SQLiteLedger, path: Path, between: Lets
) -> None:
    await between(ledger)
    path.unlink()

    for _ in range(2):
        with pytest.raises(LedgerError, match=r"removed or replaced.*put the file back"):
            await store(ledger, "a")

    assert not path.exists()


@lets
async def test_file_that_is_put_back_is_used_again(
    ledger: SQLiteLedger, path: Path, between: Lets
) -> None:
    await between(ledger)
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(LedgerError, match="removed or replaced"):
        await store(ledger, "b")
    path.with_name("elsewhere.db").rename(path)

    await store(ledger, "c")

    assert ["a", "c"] == await names(ledger)


@lets
async def test_replaced_file_is_noticed_and_left_unchanged(
    ledger: SQLiteLedger, path: Path, between: Lets
) -> None:
    other = SQLiteLedger(path.with_name("other.db"))
    await remember(other, "of the other")
    await other.aclose()
    await between(ledger)
    other._thread.path.replace(path)
    before = path.read_bytes()

    with pytest.raises(LedgerError, match="create a new SQLiteLedger and a new client"):
        await store(ledger, "a")

    assert before == path.read_bytes()


async def test_ledger_that_has_only_read_notices_another_file(path: Path) -> None:
    reader = SQLiteLedger(path)
    other = await asyncio.to_thread(_another_ledger, path.with_name("other.db"))

    assert [] == await names(reader)
    await reader.aclose()
    path.write_bytes(other)

    with pytest.raises(LedgerError, match="removed or replaced"):
        await names(reader)
    await reader.aclose()


@lets_go
@pytest.mark.parametrize("in_place", [True, False])
async def test_older_copy_of_the_same_file_is_noticed(
    ledger: SQLiteLedger, path: Path, between: Lets, *, in_place: bool
) -> None:
    """It has the same id and may have the same inode number, but lacks later results."""
    await _closes(ledger)
    backup = path.read_bytes()
    await store(ledger, "b")
    await between(ledger)
    if not in_place:
        path.unlink()
    path.write_bytes(backup)

    with pytest.raises(LedgerError, match="removed or replaced"):
        await store(ledger, "c")

    assert backup == path.read_bytes()


@lets_go
async def test_same_content_in_the_same_place_is_the_same_file(
    ledger: SQLiteLedger, path: Path, between: Lets
) -> None:
    await _closes(ledger)
    other = SQLiteLedger(path)
    await store(other, "of another process")
    await names(ledger)
    await other.aclose()
    await between(ledger)
    path.write_bytes(path.read_bytes())

    assert ["a", "of another process"] == await names(ledger)


async def test_transaction_that_reads_counts_as_no_write(
    ledger: SQLiteLedger, path: Path
) -> None:
    before = ledger._thread._file._marks
    await names(ledger)
    await remember(ledger, "a")
    read = ledger._thread._file._marks
    await asyncio.gather(remember(ledger, "b"), remember(ledger, "c"))
    written = ledger._thread._file._marks

    assert before is not None
    assert written is not None
    assert before == read
    assert before.writes < written.writes <= before.writes + 2


def _another_ledger(path: Path) -> bytes:
    async def make() -> None:
        other = SQLiteLedger(path)
        await remember(other, "of the other")
        await other.aclose()

    asyncio.run(make())
    return path.read_bytes()


def _another_without_id(path: Path) -> bytes:
    _another_ledger(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM meta")
    return path.read_bytes()


def _old_ledger(path: Path) -> bytes:
    return (Path(__file__).parent / "fixtures" / "ledger_schema_1.db").read_bytes()


def _nothing(path: Path) -> bytes:
    return b""


@lets_go
@pytest.mark.parametrize(
    "content", [_another_ledger, _another_without_id, _old_ledger, _nothing]
)
async def test_another_file_with_the_same_inode_number_is_noticed_by_its_id(
    ledger: SQLiteLedger, path: Path, between: Lets, content: Callable[[Path], bytes]
) -> None:
    """A file system may give the inode number of a deleted file to the next one."""
    other = await asyncio.to_thread(content, path.with_name("other.db"))
    await between(ledger)
    path.write_bytes(other)

    with pytest.raises(LedgerError, match="removed or replaced"):
        await store(ledger, "a")

    assert other == path.read_bytes()


async def test_file_exchanged_while_it_is_opened_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SQLiteLedger(path)
    seen = iter([sqlite_file._Place(1, 1), sqlite_file._Place(1, 1), sqlite_file._Place(1, 2)])
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "_look", lambda _: next(seen))
        with pytest.raises(LedgerError, match="removed or replaced"):
            await remember(ledger, "a")
    done = await remember(ledger, "b")
    await ledger.aclose()

    assert done is not None
    assert done.granted


async def test_file_removed_at_once_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SQLiteLedger(path)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "_make", lambda _: None)
        with pytest.raises(LedgerError, match="unable to open"):
            await remember(ledger, "a")
        patch.setattr(sqlite_file, "_look", lambda _: None)
        await asyncio.to_thread(path.touch)
        with pytest.raises(LedgerError, match="removed or replaced"):
            await remember(ledger, "a")
    await ledger.aclose()


async def test_new_ledger_may_take_the_place_of_one_that_is_gone(
    ledger: SQLiteLedger, path: Path
) -> None:
    await ledger.aclose()
    path.unlink()
    other = SQLiteLedger(path)
    done = await remember(other, "a")
    await other.aclose()

    assert done is not None
    assert done.granted


async def test_path_of_any_characters_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20é ü;mode=ro.db"
    for name in ("a", "b"):
        ledger = SQLiteLedger(path)
        await remember(ledger, name)
        found = await names(ledger)
        await ledger.aclose()

    assert ["a", "b"] == found
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("closed", [True, False])
async def test_missing_file_is_noticed_by_the_child_of_a_fork(
    ledger: SQLiteLedger, path: Path, *, closed: bool
) -> None:
    if closed:
        await ledger.aclose()
    path.unlink()
    process = multiprocessing.get_context("fork").Process(target=_use_forked, args=(ledger,))
    process.start()
    await asyncio.to_thread(process.join, 10)

    assert 7 == process.exitcode
    assert not path.exists()


def _use_forked(ledger: SQLiteLedger) -> None:
    asyncio._set_running_loop(None)  # the parent's, as in a forked worker
    try:
        asyncio.run(remember(ledger, "from the child"))
    except LedgerError as exc:
        os._exit(7 if "removed or replaced" in str(exc) else 1)
    os._exit(0)


# --- locks at the opening ---------------------------------------------------------------------

OPENER = """
    import asyncio, pathlib, sys, time
    from modelmax_async import SQLiteLedger
    from modelmax_async._api.paths import make_job
    from modelmax_async.ledger import Key, Remember

    async def main(start):
        for number in range(12):
            ledger = SQLiteLedger(pathlib.Path(sys.argv[1]) / f"{number}.db")
            time.sleep(max(0, start + number * 0.15 - time.time()))
            await ledger.apply(Key("x", sys.argv[2]), Remember(make_job("veo-3", sys.argv[2])))
            await ledger.aclose()

    print("ready", flush=True)
    asyncio.run(main(float(sys.stdin.readline())))
"""


async def test_eight_processes_may_create_a_file_at_once(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    program = textwrap.dedent(OPENER)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            str(tmp_path),
            str(number),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        await process.stdout.readline()
    start = f"{time.time() + 0.2}\n".encode()
    ended = await asyncio.gather(*(process.communicate(start) for process in processes))
    found = []
    for number in range(12):
        ledger = SQLiteLedger(tmp_path / f"{number}.db")
        found.append(len(await ledger.entries("x", {"known"})))
        await ledger.aclose()

    assert [(b"", b"")] * 8 == ended
    assert [8] * 12 == found


def _hold(path: Path, held: threading.Event, seconds: float) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        held.set()
        time.sleep(seconds)
        db.execute("ROLLBACK")


async def test_lock_that_sqlite_does_not_wait_for_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite fails at once where another connection changes the journal mode."""
    prepare, failures = sqlite_schema.prepare, [True, False, True]

    def impatient(db: sqlite3.Connection, *arguments: Any) -> Any:
        if failures:
            if failures.pop():
                db.execute("BEGIN")
            _raise_busy(path.with_name("other.db"))
        return prepare(db, *arguments)

    monkeypatch.setattr(sqlite_file, "prepare", impatient)
    ledger = SQLiteLedger(path)
    done = await remember(ledger, "a")
    await ledger.aclose()

    assert [] == failures
    assert done is not None
    assert done.granted


async def test_file_that_is_refused_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[sqlite3.Connection] = []
    connect: Any = sqlite3.connect

    def recorded(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*arguments, check_same_thread=False, **options)
        made.append(db)
        return db

    with closing(connect(path)) as db, db:
        db.execute("PRAGMA user_version = 3")
    monkeypatch.setattr(sqlite3, "connect", recorded)
    ledger = SQLiteLedger(path)
    with pytest.raises(LedgerError, match="upgrade modelmax_async"):
        await remember(ledger, "a")
    await ledger.aclose()

    assert 1 == len(made)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


async def test_error_other_than_a_lock_is_raised_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def broken(db: sqlite3.Connection, path: Path, _: object) -> None:
        tries.append(path)
        db.execute("SELECT * FROM nowhere")

    monkeypatch.setattr(sqlite_file, "prepare", broken)
    ledger = SQLiteLedger(path)
    with pytest.raises(LedgerError, match="no such table: nowhere"):
        await remember(ledger, "a")
    await ledger.aclose()

    assert [path] == tries


def _raise_busy(path: Path) -> None:
    """Raise the real error of SQLite, with its code."""
    with (
        closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as one,
        closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as two,
    ):
        one.execute("BEGIN IMMEDIATE")
        two.execute("BEGIN IMMEDIATE")


async def test_new_file_that_is_locked_for_a_while_is_waited_for(path: Path) -> None:
    held = threading.Event()
    holder = threading.Thread(target=_hold, args=(path, held, 0.4))
    holder.start()
    await asyncio.to_thread(held.wait)
    ledger = SQLiteLedger(path)

    done = await remember(ledger, "a")
    await asyncio.to_thread(holder.join)
    await ledger.aclose()

    assert done is not None
    assert done.granted


async def test_new_file_that_stays_locked_is_an_error_after_the_busy_timeout(
    path: Path,
) -> None:
    held = threading.Event()
    holder = threading.Thread(target=_hold, args=(path, held, 2.0))
    holder.start()
    await asyncio.to_thread(held.wait)
    ledger = SQLiteLedger(path, busy_timeout=0.2)
    started = time.monotonic()

    with pytest.raises(LedgerError, match="Another process holds its lock"):
        await remember(ledger, "a")
    took = time.monotonic() - started
    await ledger.aclose()
    await asyncio.to_thread(holder.join)

    assert 0.2 <= took < 1.5


# --- closing ----------------------------------------------------------------------------------


async def test_closing_needs_no_thread_of_the_application(ledger: SQLiteLedger) -> None:
    """The only thread of an application's pool may be busy, or wait for the closing."""
    released = threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:
        loop.set_default_executor(executor)
        busy = loop.run_in_executor(None, released.wait, 15)
        try:
            async with asyncio.timeout(5):
                await ledger.aclose()
            finished = busy.done()
        finally:
            released.set()
        await busy

    assert not finished


async def test_closing_ends_the_thread_and_closes_the_file(
    ledger: SQLiteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "IDLE", 60.0)
    await remember(ledger, "b")
    thread = running(ledger)
    beside = sorted(file.name for file in path.parent.iterdir())

    await ledger.aclose()
    left = [file.name for file in path.parent.iterdir()]
    await asyncio.to_thread(thread.join, 5)

    assert ["runs.db", "runs.db-shm", "runs.db-wal"] == beside
    assert ["runs.db"] == left
    assert not thread.is_alive()


async def test_closing_waits_for_earlier_work_only(
    ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "IDLE", 60.0)
    before = asyncio.create_task(remember(ledger, "before"))
    await asyncio.sleep(0)
    closing_ = asyncio.create_task(ledger.aclose())
    await asyncio.sleep(0)
    gate = threading.Event()
    after = asyncio.create_task(ledger._thread.run(lambda _: gate.wait(10)))

    async with asyncio.timeout(5):
        await closing_
    ends = before.done(), after.done()
    gate.set()
    await after

    assert (True, False) == ends
    assert ["a", "before"] == await names(ledger)


async def test_closing_keeps_its_place_in_the_queue(ledger: SQLiteLedger) -> None:
    gate = threading.Event()
    asked: list[asyncio.Task[Any]] = []
    for ask in (
        ledger._thread.run(lambda _: gate.wait(10)),
        store(ledger, "b"),
        ledger.aclose(),
        store(ledger, "c"),
        ledger.aclose(),
        ledger.aclose(),
    ):
        asked.append(asyncio.create_task(ask))
        await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*asked)

    assert ["a", "b", "c"] == await names(ledger)


async def test_closing_does_not_open_the_file_again(
    ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[SQLiteFile] = []
    monkeypatch.setattr(SQLiteFile, "open", opened.append)
    await remember(ledger, "b")
    thread = running(ledger)
    await ledger.aclose()
    await asyncio.to_thread(thread.join, 5)

    assert [] == opened


async def test_transaction_has_at_most_one_batch(
    ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "BATCH", 3)
    gate = threading.Event()
    slow = asyncio.create_task(ledger._thread.run(lambda _: gate.wait(10)))
    await asyncio.sleep(0.05)
    many = [asyncio.create_task(remember(ledger, f"{n}")) for n in range(7)]
    await asyncio.sleep(0)
    before = ledger._thread._file._marks
    gate.set()
    await asyncio.gather(slow, *many)
    after = ledger._thread._file._marks

    assert before is not None
    assert after is not None
    assert before.writes + 3 == after.writes


async def test_closing_that_is_cancelled_leaves_the_thread_to_finish(
    ledger: SQLiteLedger,
) -> None:
    gate = threading.Event()
    slow = asyncio.create_task(ledger._thread.run(lambda _: gate.wait(10)))
    stored = asyncio.create_task(store(ledger, "b"))
    await asyncio.sleep(0)
    thread = running(ledger)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ledger.aclose(), 0.05)
    alive = thread.is_alive()
    gate.set()
    await asyncio.gather(slow, stored)
    await ledger.aclose()
    await asyncio.to_thread(thread.join, 5)

    assert alive
    assert not thread.is_alive()
    assert ["a", "b"] == await names(ledger)


async def test_many_may_close_at_once_and_again(ledger: SQLiteLedger) -> None:
    async with asyncio.timeout(5):
        await asyncio.gather(*(ledger.aclose() for _ in range(5)))
        await ledger.aclose()

    assert ["a"] == await names(ledger)


async def test_closing_an_unused_ledger_creates_no_file(path: Path) -> None:
    ledger = SQLiteLedger(path)
    await ledger.aclose()

    assert not path.exists()
    assert 10.0 == ledger._thread._file._busy_timeout


async def test_closing_waits_for_a_thread_that_is_ending(
    ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle thread has no more work, but still has the file open for a moment."""
    gate, close = threading.Event(), sqlite_thread._close

    def slowly(db: sqlite3.Connection | None) -> None:
        gate.wait(10)
        close(db)

    monkeypatch.setattr(sqlite_thread, "IDLE", 0.01)
    monkeypatch.setattr(sqlite_thread, "_close", slowly)
    await remember(ledger, "b")
    while ledger._thread._thread is not None:
        await asyncio.sleep(0.01)

    closer = asyncio.create_task(ledger.aclose())
    done, _ = await asyncio.wait([closer], timeout=0.1)
    gate.set()
    await closer

    assert set() == done


async def test_error_while_closing_still_ends_the_closing(
    ledger: SQLiteLedger, path: Path
) -> None:
    path.unlink()
    with pytest.raises(LedgerError):
        await remember(ledger, "b")

    async with asyncio.timeout(5):
        await ledger.aclose()

"""The ledger in an SQLite file: what it promises beyond every ledger."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import sqlite3
import stat
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from modelmax_async import ConfigurationError, LedgerError, SQLiteLedger
from modelmax_async._api.paths import make_job
from modelmax_async.ledger import Key, Ledger, Remember, Step, Store, SubmitStep, sqlite_thread
from modelmax_async.ledger.sqlite_file import explain

pytestmark = pytest.mark.anyio
ORIGIN = "https://api.modelmax.io:443"


def key(name: str) -> Key:
    return Key(ORIGIN, name)


async def remember(ledger: Ledger, name: str) -> Step | SubmitStep | None:
    return await ledger.apply(key(name), Remember(make_job("veo-3", name)))


async def store(ledger: Ledger, name: str, body: bytes = b"{}") -> Step | SubmitStep | None:
    return await ledger.apply(key(name), Store(make_job("veo-3", name), "a", body))


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b"])
def test_sqlite_ledger_needs_a_file(path: str) -> None:
    with pytest.raises(ConfigurationError, match="path must be a file, got"):
        SQLiteLedger(path)


async def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await remember(ledger, "a")

    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    await ledger.aclose()

    assert {0o600} == modes


async def test_every_commit_is_synced(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    thread = ledger._thread

    found = await thread.run(
        lambda db: [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "fullfsync", "journal_mode")
        ]
    )
    await ledger.aclose()

    assert [2, 1, "wal"] == found


async def test_idle_ledger_ends_its_thread_and_can_be_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "IDLE", 0.01)
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await remember(ledger, "a")
    thread = ledger._thread._thread

    assert thread is not None
    await asyncio.to_thread(thread.join)

    again = await remember(ledger, "a")
    await ledger.aclose()
    await ledger.aclose()

    assert again is not None
    assert not again.granted


async def test_concurrent_moves_share_a_commit(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await remember(ledger, "first")
    commits: list[str] = []
    await ledger._thread.run(
        lambda db: db.set_trace_callback(
            lambda sql: commits.append(sql) if sql == "COMMIT" else None
        )
    )
    commits.clear()

    await asyncio.gather(*(remember(ledger, str(n)) for n in range(200)))
    together = len(commits)
    await ledger.aclose()

    assert together < 50


async def test_failed_move_fails_no_other(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")

    def fail(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("no such thing")

    ended = await asyncio.gather(
        remember(ledger, "a"),
        ledger._thread.run(fail),
        remember(ledger, "b"),
        return_exceptions=True,
    )
    found = await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()

    assert [Step, LedgerError, Step] == [type(end) for end in ended]
    assert ["a", "b"] == [entry.job.request_id for entry in found]


async def test_record_that_cannot_be_added_to_fails_no_move(tmp_path: Path) -> None:
    """Not even by an exception that would end a thread."""
    ledger = SQLiteLedger(tmp_path / "runs.db")

    def add(_: bytes | None) -> bytes:
        raise SystemExit

    adding = asyncio.ensure_future(ledger.add_durations("o", "veo-3", 1, add))
    done = await ledger.apply(Key("o", "reef"), Remember(make_job("veo-3", "reef")))
    with pytest.raises(LedgerError):
        await adding
    await ledger.aclose()

    assert done is not None


async def test_work_is_done_even_if_its_caller_is_cancelled(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await remember(ledger, "first")
    asking = asyncio.create_task(store(ledger, "a"))
    await asyncio.sleep(0)

    asking.cancel()
    found = await ledger.entries(ORIGIN, {"stored"})
    await ledger.aclose()

    assert ["a"] == [entry.job.request_id for entry in found]


async def test_busy_lock_fails_all_waiting_moves_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    ledger = SQLiteLedger(path, busy_timeout=0.2)
    await remember(ledger, "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    started = asyncio.get_running_loop().time()
    ended = await asyncio.gather(
        *(remember(ledger, str(n)) for n in range(50)), return_exceptions=True
    )
    took = asyncio.get_running_loop().time() - started
    other.close()
    await ledger.aclose()

    assert [LedgerError] * 50 == [type(end) for end in ended]
    assert took < 3


async def test_missing_thread_is_a_ledger_error_and_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ledger = SQLiteLedger(tmp_path / "runs.db")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(LedgerError, match="can't start new thread"):
            await remember(ledger, "a")
    done = await remember(ledger, "a")
    await ledger.aclose()

    assert done is not None
    assert done.granted


async def test_connection_that_breaks_is_opened_again(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await remember(ledger, "a")
    with pytest.raises(LedgerError):
        await ledger._thread.run(lambda db: db.close())

    done = await remember(ledger, "a")
    await ledger.aclose()

    assert done is not None
    assert not done.granted


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def _corrupt(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def _directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (_newer, "upgrade modelmax_async"),
        (_corrupt, "recover"),
        (_directory, "not a regular file. Move it away"),
    ],
)
async def test_unusable_file_says_what_to_do(
    tmp_path: Path, spoil: Callable[[Path], None], advice: str
) -> None:
    path = tmp_path / "runs.db"
    ledger = SQLiteLedger(path)
    spoil(path)

    with pytest.raises(LedgerError, match=advice) as caught:
        await remember(ledger, "a")
    await ledger.aclose()

    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            sqlite3.OperationalError("database is locked"),
            "stop that process, or pass a longer busy_timeout",
        ),
        (
            sqlite3.OperationalError("database is busy"),
            "stop that process, or pass a longer busy_timeout",
        ),
        (sqlite3.OperationalError("database or disk is full"), "Free space on the disk"),
        (sqlite3.DatabaseError("file is not a database"), "may save the paid results"),
        (sqlite3.DatabaseError("disk image is malformed"), "may save the paid results"),
        (sqlite3.OperationalError("unable to open database file"), "must be writable"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "must be writable"),
        (PermissionError(13, "Permission denied"), "must be writable"),
        (FileNotFoundError(2, "No such file", "/full/locked/runs.db"), "directory must exist"),
        (OSError(errno.ENOSPC, "No space left on device"), "Free space on the disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Free space on the disk"),
        (sqlite3.OperationalError("disk I/O error"), "nothing was recorded"),
    ],
)
def test_error_says_what_to_do_and_has_its_cause(error: Exception, advice: str) -> None:
    made = explain(error, Path("runs.db"))

    assert str(made).startswith(f"the ledger runs.db could not be used ({error}). ")
    assert advice in str(made)
    assert error is made.__cause__
    assert made is explain(made, Path("runs.db"))


async def test_directory_that_is_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "nowhere").mkdir()
    ledger = SQLiteLedger(tmp_path / "nowhere" / "runs.db")
    (tmp_path / "nowhere").rmdir()

    with pytest.raises(LedgerError, match="directory must exist"):
        await remember(ledger, "a")
    await ledger.aclose()


async def test_locked_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    ledger = SQLiteLedger(path, busy_timeout=0.05)
    await remember(ledger, "a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(LedgerError, match="Another process holds its lock"):
        await remember(ledger, "b")
    other.execute("ROLLBACK")
    other.close()
    done = await remember(ledger, "b")
    await ledger.aclose()

    assert done is not None
    assert done.granted


async def test_full_disk_says_what_to_do_and_keeps_its_contents(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await store(ledger, "a")
    await ledger._thread.run(lambda db: db.execute("PRAGMA max_page_count = 8").fetchone())

    with pytest.raises(LedgerError, match="Free space"):
        await store(ledger, "b", b"x" * 1_000_000)
    kept = await remember(ledger, "a")
    await ledger.aclose()

    assert isinstance(kept, Step)
    assert "stored" == kept.entry.state


async def test_removed_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    ledger = SQLiteLedger(path)
    await remember(ledger, "a")
    path.rename(tmp_path / "elsewhere.db")

    with pytest.raises(LedgerError, match="removed or replaced"):
        await store(ledger, "a")
    (tmp_path / "elsewhere.db").rename(path)
    done = await store(ledger, "a")
    await ledger.aclose()

    assert isinstance(done, Step)
    assert "stored" == done.entry.state


async def test_program_that_exits_at_once_still_finishes_its_writes(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    program = f"""
        import asyncio, time
        from modelmax_async import SQLiteLedger
        from modelmax_async._api.paths import make_job
        from modelmax_async.ledger import Key, Store

        async def main():
            ledger = SQLiteLedger({str(path)!r})
            job = make_job("veo-3", "a")
            slow = asyncio.ensure_future(ledger._thread.run(lambda db: time.sleep(0.3)))
            paid = ledger.apply(Key({ORIGIN!r}, "a"), Store(job, "attempt", b"paid"))
            storing = asyncio.ensure_future(paid)
            await asyncio.sleep(0.05)

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program)
    )
    await process.wait()
    ledger = SQLiteLedger(path)
    stored = await ledger.entries(ORIGIN, {"stored"})
    await ledger.aclose()

    assert ["a"] == [entry.job.request_id for entry in stored]


async def test_thread_of_another_process_is_not_waited_for(tmp_path: Path) -> None:
    """The child of a fork has the object of a thread that runs in the parent only."""
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await remember(ledger, "a")
    await ledger.aclose()
    ledger._thread._pid = -1
    ledger._thread._thread = threading.Thread()

    await ledger.aclose()
    done = await remember(ledger, "a")
    await ledger.aclose()

    assert done is not None
    assert not done.granted


def _remember_in_child(ledger: SQLiteLedger) -> None:
    asyncio.run(_child(ledger))


async def _child(ledger: SQLiteLedger) -> None:
    await ledger.aclose()
    await remember(ledger, "from the child")
    await ledger.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_ledger_works_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "runs.db")
    await remember(ledger, "from the parent")

    process = multiprocessing.get_context("fork").Process(target=_forked, args=(ledger,))
    process.start()
    await asyncio.to_thread(process.join, 10)
    found = await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()

    assert 0 == process.exitcode
    assert ["from the parent", "from the child"] == [e.job.request_id for e in found]


def _forked(ledger: SQLiteLedger) -> None:
    """Detach from the running loop of the parent, as a forked worker does."""
    asyncio._set_running_loop(None)
    _remember_in_child(ledger)
    os._exit(0)

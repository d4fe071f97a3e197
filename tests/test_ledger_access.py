"""A ledger file that another user made or may change is refused before SQLite reads it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import in_process

from modelmax_async import ConfigurationError, LedgerError, SQLiteLedger
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator
from modelmax_async.ledger import Key, Remember

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such owners and modes"),
]
ORIGIN = "https://api.modelmax.io:443"
NOBODY = 65534
suffixes = pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])


async def remember(path: Path, name: str, *, shared: bool = False) -> list[str]:
    """Record a job in the file, and return the names of all that it then has."""
    ledger = SQLiteLedger(path, shared=shared)
    try:
        await ledger.apply(Key(ORIGIN, name), Remember(make_job("veo-3", name)))
        return [entry.job.request_id for entry in await ledger.entries(ORIGIN, {"known"})]
    finally:
        await ledger.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
async def ledger(path: Path) -> SQLiteLedger:
    """A ledger whose file holds the job ``mine``, and is closed."""
    assert ["mine"] == await remember(path, "mine")

    return SQLiteLedger(path)


def beside(path: Path, suffix: str) -> Path:
    """Return one of the files of a ledger, which exists."""
    file = path.with_name(path.name + suffix)
    file.touch(0o600)
    return file


def planted_log(path: Path) -> Path:
    """Leave a log beside a ledger that adds a job to it, as another user could."""
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    with closing(sqlite3.connect(copy)) as db:
        db.execute("CREATE TEMP TABLE job AS SELECT * FROM entries")
        db.execute("UPDATE job SET request_id = 'planted'")
        with db:
            db.execute("INSERT INTO entries SELECT * FROM job")
        return Path(shutil.copy(f"{copy}-wal", f"{path}-wal"))


def _nothing(_: Path) -> None:
    """Leave the file as it is."""


def _to_nobody(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY, follow_symlinks=False)


as_root = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can give a file away"
)


@pytest.mark.parametrize(
    ("act", "expected"),
    [(_nothing, ["mine", "planted", "next"]), pytest.param(_to_nobody, None, marks=as_root)],
)
async def test_planted_log_adds_no_job(
    ledger: SQLiteLedger, path: Path, act: Callable[[Path], None], expected: list[str] | None
) -> None:
    """The log itself would be believed: it counts only if it is this user's."""
    log = planted_log(path)
    act(log)

    if expected is None:
        with pytest.raises(LedgerError, match=rf"-wal belongs to user {NOBODY}"):
            await remember(path, "next")
        log.unlink()
        expected = ["mine", "next"]

    assert expected == await remember(path, "next")


@suffixes
async def test_file_of_another_user_is_refused_and_names_the_way_out(
    ledger: SQLiteLedger, path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, another = os.geteuid(), os.geteuid() + 1
    file = beside(path, suffix)
    content = path.read_bytes()
    if suffix:  # only the file beside it is the other's
        monkeypatch.setattr(
            "modelmax_async.ledger.sqlite_access._BESIDE", (suffix,), raising=True
        )
    monkeypatch.setattr(os, "geteuid", lambda: another)

    with pytest.raises(LedgerError) as caught:
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()

    assert f"belongs to user {mine}" in str(caught.value)
    assert f"`chown {another}`" in str(caught.value)
    assert content == path.read_bytes()
    assert file.exists()


@suffixes
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
async def test_file_that_others_may_write_is_refused(
    ledger: SQLiteLedger, path: Path, suffix: str, mode: int
) -> None:
    file = beside(path, suffix)
    file.chmod(mode)

    with pytest.raises(LedgerError, match=rf"{file.name} \(mode {mode:o}\).*`chmod 600`"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()
    file.chmod(0o600)

    assert ["mine", "next"] == await remember(path, "next")


@suffixes
@pytest.mark.parametrize("mode", [0o660, 0o666, 0o777])
async def test_shared_ledger_uses_a_file_that_others_may_write(
    ledger: SQLiteLedger, path: Path, suffix: str, mode: int
) -> None:
    """Volumes of containers and mounted drives have such modes, and some cannot be changed."""
    beside(path, suffix).chmod(mode)

    with pytest.raises(LedgerError, match=r"or pass SQLiteLedger\(path, shared=True\) if you"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()

    assert ["mine", "next"] == await remember(path, "next", shared=True)


async def test_shared_ledger_uses_the_file_of_another_user(
    ledger: SQLiteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root in a container uses the volume of a user."""
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)

    with pytest.raises(LedgerError, match=r"or pass SQLiteLedger\(path, shared=True\) if you"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()

    assert ["mine", "next"] == await remember(path, "next", shared=True)


@suffixes
async def test_shared_ledger_refuses_a_hard_link(
    ledger: SQLiteLedger, path: Path, suffix: str
) -> None:
    file = beside(path, suffix)
    file.with_name("another name").hardlink_to(file)

    with pytest.raises(LedgerError, match=rf"{file.name} has 2 names \(hard links\)"):
        await remember(path, "next", shared=True)


async def test_shared_ledger_refuses_pipes_and_links_that_lead_nowhere(path: Path) -> None:
    pipe = path.with_name("pipe.db")
    os.mkfifo(pipe, 0o600)
    path.symlink_to(path.with_name("gone.db"))

    with pytest.raises(LedgerError, match=r"pipe\.db is not a regular file"):
        await remember(pipe, "mine", shared=True)
    with pytest.raises(LedgerError, match=r"gone\.db, which does not exist"):
        await remember(path, "mine", shared=True)


async def test_new_file_of_a_shared_ledger_is_readable_by_its_owner_only(path: Path) -> None:
    await remember(path, "mine", shared=True)

    assert 0o600 == path.stat().st_mode & 0o777


@pytest.mark.parametrize("value", [1, 0, None, "no"])
async def test_shared_must_be_a_bool(path: Path, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"shared must be True or False, got "):
        SQLiteLedger(path, shared=value)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
async def test_file_that_others_may_only_read_is_used(
    ledger: SQLiteLedger, path: Path, mode: int
) -> None:
    """A copy made with ``cp`` is readable by others, unless the user forbids it."""
    path.chmod(mode)

    assert ["mine", "next"] == await remember(path, "next")


@suffixes
async def test_hard_link_is_refused(ledger: SQLiteLedger, path: Path, suffix: str) -> None:
    file = beside(path, suffix)
    other = file.with_name("another name")
    other.hardlink_to(file)

    with pytest.raises(LedgerError, match=rf"{file.name} has 2 names \(hard links\)"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()
    other.unlink()

    assert ["mine", "next"] == await remember(path, "next")


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
async def test_symbolic_link_beside_the_file_is_refused(
    ledger: SQLiteLedger, path: Path, suffix: str
) -> None:
    path.with_name(path.name + suffix).symlink_to(path)

    with pytest.raises(LedgerError, match=rf"{path.name}{suffix} is not a regular file"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()


async def test_pipe_is_refused_and_does_not_hang(path: Path) -> None:
    os.mkfifo(path, 0o600)

    with pytest.raises(LedgerError, match=r"runs\.db is not a regular file\. Move it away"):
        await remember(path, "mine")


async def test_own_symbolic_link_to_an_own_file_is_used(
    ledger: SQLiteLedger, path: Path
) -> None:
    """The files beside it are those of the file that it leads to."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    used = await remember(link, "next")
    beside(path, "-wal").chmod(0o666)

    with pytest.raises(LedgerError, match=r"write to .*runs\.db-wal"):
        await remember(link, "another")

    assert ["mine", "next"] == used


async def test_symbolic_link_of_another_user_is_refused(
    ledger: SQLiteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    if os.geteuid() == 0:  # whose links are trusted
        _to_nobody(link)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(LedgerError, match=r"symbolic link that user \d+ made"):
        await remember(link, "next")


async def test_dangling_symbolic_link_is_named(path: Path) -> None:
    target = path.with_name("gone.db")
    path.symlink_to(target)

    with pytest.raises(LedgerError) as caught:
        await remember(path, "mine")

    assert f"is a symbolic link to {target}, which does not exist" in str(caught.value)
    assert not target.exists()


async def test_log_that_appears_while_the_file_is_opened_is_noticed(
    ledger: SQLiteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def plant(*arguments: Any, **options: Any) -> sqlite3.Connection:
        beside(path, "-journal").chmod(0o666)
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", plant)

    with pytest.raises(LedgerError, match=r"write to .*runs\.db-journal"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()


async def test_files_are_checked_whenever_they_are_opened_again(
    ledger: SQLiteLedger, path: Path
) -> None:
    await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()
    path.chmod(0o666)

    with pytest.raises(LedgerError, match="other users can write"):
        await ledger.entries(ORIGIN, {"known"})
    path.chmod(0o600)
    found = await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()

    assert ["mine"] == [entry.job.request_id for entry in found]


async def test_umask_of_the_program_does_not_open_the_file_to_others(path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = SQLiteLedger(path)
        await ledger.entries(ORIGIN, {"known"})
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        await ledger.aclose()
    finally:
        os.umask(before)

    assert {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600} == modes


async def test_system_without_owners_checks_nothing(
    ledger: SQLiteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.chmod(0o666)
    monkeypatch.delattr(os, "geteuid")

    assert ["mine", "next"] == await remember(path, "next")


async def test_refused_ledger_makes_no_billed_call(path: Path, emulator: Emulator) -> None:
    await asyncio.to_thread(path.touch, 0o600)
    path.chmod(0o666)
    request_id = emulator.add_job()

    async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
        with pytest.raises(LedgerError, match="no billed call was made"):
            await client.wait_for(request_id)

    assert {} == emulator.billed

"""A ledger, or the file of one, that cannot work is named before any request."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledgers import Handle
from support import in_process, in_virtual_time

from modelmax_async import ConfigurationError, LedgerError, MemoryLedger, SQLiteLedger
from modelmax_async.emulator import Emulator


def _of_sqlite(path: Any, **options: Any) -> Callable[[], object]:
    return lambda: SQLiteLedger(path, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_of_sqlite("none/runs.db"), "path must be in a directory that exists, got 'none/runs"),
        (_of_sqlite("file/runs.db"), "path must be in a directory that exists, got 'file/runs"),
        (_of_sqlite("dir"), "path must be a file, got the directory 'dir': pass "),
        (
            _of_sqlite("~/runs.db"),
            "which is not expanded, got '~/runs.db': pass Path('~/runs.d",
        ),
        (_of_sqlite(Path("~")), "which is not expanded, got '~': pass Path('~').expanduser()"),
        (_of_sqlite("sqlite:///runs.db"), "such as 'runs.db', got a URL"),
        (_of_sqlite("postgresql://u:pw@h/db"), "A PostgreSQL database needs a PostgresLedger"),
        (_of_sqlite("file:runs.db?mode=rwc"), "such as 'runs.db', got a URL"),
        (_of_sqlite(5), "path must be a path (a string or a pathlib.Path), got 5"),
        (_of_sqlite(b"runs.db"), "path must be a path (a string or a pathlib.Path), got bytes"),
        (_of_sqlite(None), "path must be a path (a string or a pathlib.Path), got None"),
        (_of_sqlite(Path), "path must be a path (a string or a pathlib.Path), got the class P"),
        (
            _of_sqlite("a.db", busy_timeout="10"),
            "busy_timeout must be a number of seconds from",
        ),
        (
            _of_sqlite("a.db", busy_timeout=-1),
            "busy_timeout must be a number of seconds from 0",
        ),
    ],
)
def test_mistake_in_the_path_of_a_ledger_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError) as caught:
        make()

    assert message in str(caught.value)
    assert "pw" not in str(caught.value)
    assert ["dir", "file"] == sorted(each.name for each in tmp_path.iterdir())


def test_connection_in_place_of_a_path_is_named() -> None:
    database: Any = sqlite3.connect(":memory:")

    with pytest.raises(ConfigurationError, match=r"path must be a path .*, got Connection"):
        SQLiteLedger(database)
    database.close()


class Plain:
    """A ledger that works although no method of it looks like a coroutine function."""

    def __init__(self) -> None:
        self.store = Handle(MemoryLedger())

    def __getattr__(self, name: str) -> Any:
        if name not in {"apply", "entries", "aclose"}:
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            return getattr(self.store, name)(*arguments)

        return call


class Synchronous:
    """A ledger whose author forgot that its methods are awaited."""

    def apply(self, key: object, move: object) -> None:
        """Return at once."""

    def entries(self, origin: str, states: object) -> list[object]:
        return []

    def aclose(self) -> None:
        """Return at once."""


@pytest.mark.anyio
@in_virtual_time
async def test_ledger_that_only_behaves_like_one_is_used(emulator: Emulator) -> None:
    async with in_process(emulator, ledger=Plain()) as client:
        result = await client.generate("a reef")

    assert {result.request_id: 1} == emulator.billed


@pytest.mark.anyio
@in_virtual_time
async def test_synchronous_ledger_is_named_and_nothing_is_billed(emulator: Emulator) -> None:
    async with in_process(emulator, ledger=Synchronous()) as client:
        with pytest.raises(LedgerError, match=r"^apply\(\) of the ledger must be an async"):
            await client.generate("a reef")
        with pytest.raises(LedgerError, match=r"^entries\(\) of the ledger must be an async"):
            await client.pending()

    assert {} == emulator.billed

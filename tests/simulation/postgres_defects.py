"""Defects put into the PostgreSQL ledger; see `simulation.defects`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from attrs import evolve

from modelmax_async.ledger import postgres_commit, postgres_transaction, postgres_writer
from modelmax_async.ledger.postgres_tables import Tables

InDoubtError = postgres_transaction.InDoubtError


@contextmanager
def _made_again() -> Iterator[None]:
    honest = postgres_transaction.transact

    async def transact(*args: Any) -> Any:
        try:
            return await honest(*args)
        except InDoubtError as exc:
            raise evolve(exc, number=-1) from None

    with patch.object(postgres_commit, "transact", transact):
        yield


@contextmanager
def _taken_for_made() -> Iterator[None]:
    honest = postgres_transaction.transact

    async def transact(writer: Any, *args: Any) -> Any:
        try:
            return await honest(writer, *args)
        except InDoubtError as exc:
            writer.lose()
            return exc.answers

    with patch.object(postgres_commit, "transact", transact):
        yield


@contextmanager
def _without_locks() -> Iterator[None]:
    honest = Tables.of

    def of(self: Tables, key: Any) -> Any:
        statements = honest(self, key)
        return evolve(statements, lock=statements.read)

    with patch.object(Tables, "of", of):
        yield


@contextmanager
def _not_fenced() -> Iterator[None]:
    mark = postgres_writer._MARK
    loose = mark.replace("AND number = {number} AND epoch = {epoch}", "")
    assert loose != mark
    with patch.object(postgres_writer, "_MARK", loose):
        yield


@contextmanager
def _won() -> Iterator[None]:
    honest = Tables.write

    async def write(self: Tables, connection: Any, changes: Any) -> set[Any]:
        await honest(self, connection, changes)
        return set()

    with patch.object(Tables, "write", write):
        yield


#: By names that say what is wrong.
DEFECTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "PostgreSQL: a commit in doubt is taken for not made, and is made again": _made_again,
    "PostgreSQL: a commit in doubt is taken for made": _taken_for_made,
    "PostgreSQL: a transaction is decided without looking at row locks": _without_locks,
    "PostgreSQL: a lost connection may still commit once it is replaced": _not_fenced,
    "PostgreSQL: a lost race to add a row is taken for won": _won,
}

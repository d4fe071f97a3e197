"""The statements of a PostgreSQL ledger: each reads or writes many rows at once.

A row is found by a digest of its key, because an index cannot hold the longest request ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import attrs
from attrs import evolve

from modelmax_async._models import LedgerEntry
from modelmax_async.ledger.columns import (
    ENTRY,
    SUBMISSION,
    entry_of,
    row_of,
    submission_of,
    submission_row_of,
)
from modelmax_async.ledger.postgres_batch import AnyKey, Changes, Record
from modelmax_async.ledger.postgres_schema import UNFINISHED
from modelmax_async.ledger.protocol import Key, SubmitKey
from modelmax_async.ledger.rows import UnreadableRowError

_TYPES = {
    "submitted_at": "double precision",
    "since": "double precision",
    "lease_until": "double precision",
    "lease": "double precision",
    "saved_at": "double precision",
    "acknowledged": "boolean",
    "body": "bytea",
    "digest": "bytea",
    "job_digest": "bytea",
    "same": "boolean",
}
#: Whether no other transaction is about to add the same key: an insert would wait for it.
_TAKEN = "pg_try_advisory_xact_lock(hashtextextended(encode(new.digest, 'hex'), 0))"


@lru_cache(maxsize=8192)
def digest(key: AnyKey) -> bytes:
    """Return the digest of a key. Neither part of a key contains a line break."""
    return hashlib.sha256("\n".join((key.origin, _name(key))).encode()).digest()


def _name(key: AnyKey) -> str:
    return key.key if isinstance(key, SubmitKey) else key.request_id


@attrs.frozen
class Statements:
    """The statements of one table.

    Attributes:
        read: rows by digest, each with a flag: whether another transaction holds it.
        lock: the same, and locks the rows that no other transaction holds.
        add: adds rows, and returns the digests of those that were not there, and that no other
            transaction is about to add.
        change: replaces rows; ``same`` says that a body stays as it is.
        delete: deletes rows by digest.
    """

    read: str
    lock: str
    add: str
    change: str
    delete: str

    @classmethod
    def of(cls, table: str, columns: Sequence[str], body: str) -> Statements:
        """Return the statements of a table with these columns, and ``body`` if it has one."""
        names = ", ".join(columns)
        read = f"SELECT digest, false, {names} FROM {table} WHERE digest = ANY($1)"  # noqa: S608 - constants
        mine = f"{read} FOR UPDATE SKIP LOCKED"
        added, changed = ("digest", "origin", *columns), ("digest", *columns)
        sets = ", ".join(
            f"{name} = CASE WHEN new.same THEN old.{name} ELSE new.{name} END"
            if name == body
            else f"{name} = new.{name}"
            for name in columns
        )
        return cls(
            read=read,
            lock=f"WITH mine AS MATERIALIZED ({mine}) "  # noqa: S608 - constants
            f"SELECT there.digest, mine.digest IS NULL, {_of('mine', columns)} "
            f"FROM {table} AS there LEFT JOIN mine ON mine.digest = there.digest "
            "WHERE there.digest = ANY($1)",
            add=f"INSERT INTO {table} ({', '.join(added)}) "  # noqa: S608 - constants
            f"SELECT * FROM unnest({_arrays(added)}) AS new (digest) WHERE {_TAKEN} "
            "ON CONFLICT (digest) DO NOTHING RETURNING digest",
            change=f"UPDATE {table} AS old SET {sets} "  # noqa: S608 - constants
            f"FROM unnest({_arrays((*changed, 'same'))}) AS new ({', '.join(changed)}, same) "
            "WHERE old.digest = new.digest",
            delete=f"DELETE FROM {table} WHERE digest = ANY($1)",  # noqa: S608 - constants
        )


def _of(table: str, columns: Iterable[str]) -> str:
    return ", ".join(f"{table}.{name}" for name in columns)


def _arrays(columns: Iterable[str]) -> str:
    types = (_TYPES.get(name, "text") for name in columns)
    return ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, 1))


class Tables:
    """The tables of one schema."""

    def __init__(self, schema: str) -> None:
        entries, submissions = f'"{schema}".entries', f'"{schema}".submissions'
        columns = ", ".join(ENTRY)
        self._entries = Statements.of(entries, (*ENTRY, "body"), "body")
        self._submissions = Statements.of(submissions, (*SUBMISSION, "job_digest"), "")
        durations = f'"{schema}".durations'
        self.load_durations: str = (
            f"SELECT model, record FROM {durations} WHERE origin = $1 AND version = $2"  # noqa: S608 - constants
        )
        self.read_durations: str = f"SELECT record FROM {durations} WHERE digest = $1"  # noqa: S608 - constants
        self.write_durations: str = (
            f"INSERT INTO {durations} VALUES ($1, $2, $3, $4, $5) "  # noqa: S608 - constants
            "ON CONFLICT (digest) DO UPDATE SET record = excluded.record"
        )
        self.list: str = (
            f"SELECT {columns}, CASE WHEN body IS NOT NULL THEN ''::bytea END FROM {entries} "  # noqa: S608 - constants
            "WHERE origin = $1 ORDER BY position"
        )
        self.list_unfinished: str = self.list.replace("ORDER", f"AND {UNFINISHED} ORDER")
        self.list_submitted: str = (
            f"SELECT {', '.join(SUBMISSION)} FROM {submissions} AS submitted "  # noqa: S608 - constants
            "WHERE origin = $1 AND request_id IS NOT NULL AND NOT EXISTS ("
            f"SELECT 1 FROM {entries} AS there WHERE there.digest = submitted.job_digest "
            "AND (acknowledged OR state <> 'known')) ORDER BY since"
        )

    def of(self, key: AnyKey) -> Statements:
        """Return the statements of the table that a key belongs to."""
        return self._submissions if isinstance(key, SubmitKey) else self._entries

    def record(self, key: AnyKey, row: Sequence[Any]) -> Record:
        """Return the record of a row that was read.

        Raises:
            UnreadableRowError: for a row that no ledger writes.
        """
        if isinstance(key, SubmitKey):
            _check_name(key, row[2])
            return submission_of(row[2:-1])
        entry = entry_of(row[2:])
        _check_name(key, entry.job.request_id)
        return entry

    def row(self, key: AnyKey, record: Any) -> tuple[Any, ...]:
        """Return the row of a record, as text that PostgreSQL can hold."""
        if isinstance(key, SubmitKey):
            job = record.job and digest(Key(key.origin, record.job.request_id))
            return (*submission_row_of(key.key, record), job)
        if record.cause is not None or record.error is not None:
            record = evolve(
                record, cause=_storable(record.cause), error=_storable(record.error)
            )
        return row_of(record)

    async def write(self, connection: Any, changes: Changes) -> set[AnyKey]:
        """Write, and return the keys that another transaction has added first."""
        lost: set[AnyKey] = set()
        for statements, kind in ((self._entries, Key), (self._submissions, SubmitKey)):
            added = {k: r for k, r in changes.added.items() if isinstance(k, kind)}
            changed = {k: r for k, r in changes.changed.items() if isinstance(k, kind)}
            deleted = [digest(k) for k in changes.deleted if isinstance(k, kind)]
            if added:
                # in one order, so that two transactions do not wait for each other
                keys = {digest(key): key for key in added}
                rows = [
                    (each, keys[each].origin, *self.row(keys[each], added[keys[each]]))
                    for each in sorted(keys)
                ]
                found = await connection.fetch(statements.add, *zip(*rows, strict=True))
                lost |= {keys[each] for each in keys.keys() - {row[0] for row in found}}
            if changed:
                rows = [
                    (
                        digest(key),
                        *self.row(key, _without_body(record) if same else record),
                        same,
                    )
                    for key, (record, same) in changed.items()
                ]
                await connection.execute(statements.change, *zip(*rows, strict=True))
            if deleted:
                await connection.execute(statements.delete, deleted)
        return lost


def _check_name(key: AnyKey, name: str) -> None:
    """Refuse a row that has the digest of another key."""
    if name != _name(key):
        ids = (None, key.key) if isinstance(key, SubmitKey) else (key.request_id, None)
        raise UnreadableRowError(f"it is about {name}", request_id=ids[0], key=ids[1])


def _without_body(record: Record) -> Record:
    """Return the record without a body that the row has: it need not be sent again."""
    return evolve(record, body=None) if isinstance(record, LedgerEntry) else record


def _storable(text: str | None) -> str | None:
    """Return the text of a server without what no PostgreSQL text can hold."""
    return text and text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()

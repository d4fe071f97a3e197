"""What was learnt about one model, as it is kept in a ledger: a few kilobytes at most."""

from __future__ import annotations

import json
from typing import Any, Self

import attrs

from modelmax_async._polling.durations import Durations
from modelmax_async._polling.observation import Basis

#: The version of the record. A record of another version is left alone.
VERSION = 1
#: The most bytes of a record that is read: the longest one written has about 7,000.
_LONGEST = 64 * 1024


@attrs.define
class Learnt:
    """The durations of one model's jobs, apart for each `Basis`."""

    tables: dict[Basis, Durations] = attrs.field(factory=dict)

    def get(self, basis: Basis) -> Durations:
        """Return the durations of a basis."""
        return self.tables.get(basis) or Durations()

    def alive(self, basis: Basis, start: float, end: float) -> None:
        """Note that a job did not end between two ages in seconds."""
        self._table(basis).alive(start, end)

    def ended(self, basis: Basis, start: float, end: float) -> None:
        """Note that a job ended between two ages in seconds."""
        self._table(basis).ended(start, end)

    def _table(self, basis: Basis) -> Durations:
        found = self.tables.get(basis)
        if found is None:
            found = self.tables[basis] = Durations()
        return found

    def plus(self, newer: Learnt) -> Learnt:
        """Return the sum with what was learnt later."""
        found = dict(self.tables)
        for basis, table in newer.tables.items():
            found[basis] = self.get(basis).plus(table)
        return Learnt(found)

    def to_bytes(self) -> bytes:
        """Return the record for a ledger."""
        tables = {basis.value: table.to_list() for basis, table in self.tables.items()}
        return json.dumps(tables, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, record: bytes) -> Self:
        """Return what a record holds; a basis that this version does not know is left out.

        Raises:
            ValueError: if it is damaged.
        """
        try:
            if len(record) > _LONGEST:
                raise ValueError(f"not of at most {_LONGEST} bytes")
            data: Any = json.loads(record)
        except (ValueError, TypeError, RecursionError) as exc:
            raise ValueError(f"not readable: {exc}") from exc
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004 - one error for all damage
        known = [basis for basis in Basis if basis in data]
        return cls({basis: Durations.from_list(data[basis]) for basis in known})


def added(record: bytes | None, newer: Learnt) -> bytes:
    """Return a ledger's record with what was learnt since; a damaged one is replaced."""
    try:
        older = Learnt() if record is None else Learnt.from_bytes(record)
    except ValueError:
        older = Learnt()
    return older.plus(newer).to_bytes()

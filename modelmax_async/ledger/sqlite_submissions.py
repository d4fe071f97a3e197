"""The submissions of a ledger file: one row for each key of a submit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from modelmax_async._runtime import clock
from modelmax_async.ledger.columns import SUBMISSION, submission_of, submission_row_of
from modelmax_async.ledger.moves import Move
from modelmax_async.ledger.protocol import SubmitKey
from modelmax_async.ledger.submissions import SubmitStep, submit_step

_COLUMNS = ", ".join(SUBMISSION)
_READ = f"SELECT {_COLUMNS} FROM submissions WHERE origin = ? AND submit_key = ?"  # noqa: S608 - constants
_DELETE = "DELETE FROM submissions WHERE origin = ? AND submit_key = ?"
_WRITE = f"""
INSERT OR REPLACE INTO submissions (origin, {_COLUMNS}) VALUES ({", ".join("?" * 11)})
"""  # noqa: S608 - constants
_WITHOUT_ENTRY = f"""
SELECT {_COLUMNS} FROM submissions AS submitted
WHERE origin = ? AND request_id IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM entries
  WHERE entries.origin = submitted.origin AND entries.request_id = submitted.request_id
  AND (acknowledged = 1 OR state <> 'known')
)
ORDER BY since
"""  # noqa: S608 - constants


def apply(db: sqlite3.Connection, key: SubmitKey, move: Move) -> SubmitStep | None:
    """Take one step, as a part of the transaction."""
    row = db.execute(_READ, (key.origin, key.key)).fetchone()
    before = None if row is None else submission_of(row)
    done = submit_step(before, move, clock.wall())
    if done is not None and done.deleted:
        db.execute(_DELETE, (key.origin, key.key))
    elif done is not None and done.entry is not before:
        db.execute(_WRITE, (key.origin, *submission_row_of(key.key, done.entry)))
    return done


def without_entry(db: sqlite3.Connection, origin: str) -> Iterator[tuple[Any, ...]]:
    """Return the rows of the submitted jobs that have no entry."""
    return db.execute(_WITHOUT_ENTRY, (origin,))

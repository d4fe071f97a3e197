"""The list that a ledger returns: rows that cannot be read are left out and reported."""

from collections.abc import Collection, Sequence
from typing import Any

from attrs import evolve

from modelmax_async._models import LedgerEntry, LedgerState
from modelmax_async.events import EntryUnreadable
from modelmax_async.ledger.attempts import observed
from modelmax_async.ledger.columns import entry_of, submission_of
from modelmax_async.ledger.rows import UnreadableRowError
from modelmax_async.ledger.submissions import as_known

#: The most unreadable rows that one list reports: each becomes a line in the log.
_MOST = 100


class Entries(list[LedgerEntry]):
    """A list of entries, with what is missing from it.

    Attributes:
        unreadable: a record for each row that cannot be read, at most 100; the client passes
            them to its hooks. One such row must not hide the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: list[EntryUnreadable] = []


def add_entry(
    found: Entries, row: Sequence[Any], now: float, states: Collection[LedgerState]
) -> None:
    """Add the entry of a row, without its body, if it is in one of these states.

    Args:
        found: the list.
        row: the columns of an entry. In the place of a body, any bytes will do.
        now: the time of the ledger's clock, in seconds since the epoch.
        states: the states as `observed` shows them.
    """
    try:
        entry = observed(entry_of(row), now)
    except UnreadableRowError as exc:
        _leave_out(found, exc)
        return
    if entry.state in states:
        found.append(entry if entry.body is None else evolve(entry, body=None))


def add_submission(found: Entries, row: Sequence[Any]) -> None:
    """Add the entry that a submitted job counts as; see `as_known`."""
    try:
        known = as_known(submission_of(row))
    except UnreadableRowError as exc:
        _leave_out(found, exc)
    else:
        found += [] if known is None else [known]


def _leave_out(found: Entries, error: UnreadableRowError) -> None:
    if len(found.unreadable) < _MOST:
        found.unreadable.append(EntryUnreadable(error.request_id, error.key, error.cause))

"""What a row of a SQL ledger may hold: no other row is taken for a job that may be fetched.

Ledgers never write such rows: a damaged disk, another program or an attacker does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from modelmax_async._api.messages import as_text
from modelmax_async._errors import LedgerError
from modelmax_async._models import LedgerState, Phase
from modelmax_async._validators import check_key

_STATES = frozenset(get_args(LedgerState))
_PHASES = frozenset(get_args(Phase))
#: The latest time in seconds since the epoch, in the year 5138.
_LATEST = 1e11
#: What SQLite's text becomes where it is not UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")
#: What a job that owes nothing has none of; each tells of a billed call.
_PAID = ("body", "phase", "cause", "decided", "saved_at")
_Check = tuple[str, Callable[[Any], bool]]


class UnreadableRowError(Exception):
    """A row that no ledger writes.

    Attributes:
        request_id: the request id in the row as text, empty if there is none.
        key: the key of a submit in the row as text, ``None`` if there is none.
        cause: what is wrong with the row.
    """

    def __init__(self, cause: object, *, request_id: object, key: object) -> None:
        self.request_id: str = _shown(request_id)
        self.key: str | None = None if key is None else _shown(key)
        self.cause: str = as_text(str(cause), 300)
        super().__init__(self.cause)

    def explained(self, where: str) -> LedgerError:
        """Return the error for a move on this row of the ledger ``where``."""
        about = f"job {self.request_id}" if self.request_id else f"key {self.key}"
        return LedgerError(
            f"the row of {about} in the ledger {where} cannot be read ({self.cause}). No "
            "billed call is made for it: correct the row, or restore the ledger from a backup"
        )


def _shown(value: object) -> str:
    return as_text(value if isinstance(value, str | None) else repr(value)[:200], 200)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or not _SURROGATE.search(value))


def _is_number(value: Any) -> bool:
    return type(value) in {int, float}  # quicker than `is_number`: long lists ask it often


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= _LATEST


def _is_flag(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= 1


_STATE: _Check = ("a state of a job", _STATES.__contains__)
_PHASE: _Check = ("a phase of a call", _PHASES.__contains__)
_TIME: _Check = ("a number of seconds since the epoch", _is_time)
_NUMBER: _Check = ("a number", _is_number)
_TEXT: _Check = ("text", _is_text)
_FLAG: _Check = ("0 or 1", _is_flag)
_BYTES: _Check = ("bytes", lambda value: isinstance(value, bytes))

#: What each column holds. The columns of the job are checked by `Job`.
_ENTRY: dict[str, _Check] = {
    "state": _STATE,
    "since": _TIME,
    "owner": _TEXT,
    "attempt": _TEXT,
    "lease_until": _NUMBER,
    "lease": _NUMBER,
    "resting": _STATE,
    "decided": _TEXT,
    "phase": _PHASE,
    "cause": _TEXT,
    "error": _TEXT,
    "acknowledged": _FLAG,
    "saved_at": _TIME,
    "body": _BYTES,
}
_SUBMISSION: dict[str, _Check] = {
    "fingerprint": _TEXT,
    "since": _TIME,
    "attempt": _TEXT,
    "lease_until": _NUMBER,
    "lease": _NUMBER,
}
#: The columns that are never NULL.
_ALWAYS = frozenset({"state", "since", "lease_until", "lease", "acknowledged", "fingerprint"})
_JOB = ("model", "request_id", "status_url", "response_url")


def _check(row: Mapping[str, Any], checks: Mapping[str, _Check]) -> None:
    for name, (what, holds) in checks.items():
        value = row[name]
        if name in _ALWAYS if value is None else not holds(value):
            raise ValueError(f"{name} must be {what}, got {value!r:.100}")


def check_entry(row: Mapping[str, Any]) -> None:
    """Check the columns of an entry, apart from those of its job, and its body.

    Raises:
        ValueError: says what is wrong. A job that owes nothing, and so may be fetched, must
            have no trace of a billed call.
    """
    _check(row, _ENTRY)
    fault = _contradiction(row, row["state"], row["resting"])
    if fault is not None:
        raise ValueError(f"it is {row['state']}, but {fault}")


def _contradiction(row: Mapping[str, Any], state: str, resting: str | None) -> str | None:
    held = state in {"claimed", "armed"}
    if state == "stored" and row["body"] is None:
        return "has no body"
    if held and resting is None:
        return "does not say from which state"
    if state == "known" and row["owner"] is not None:
        return "has an owner"
    if state == "known" and resting not in {None, "known"}:
        return f"its last attempt began from {resting}"
    if state == "known" or (held and resting == "known"):
        return next((f"has a {name}" for name in _PAID if row[name] is not None), None)
    return None


def check_submission(row: Mapping[str, Any]) -> None:
    """Check the columns of a submission: it has no column of a job, or all of them.

    Raises:
        ValueError: says what is wrong.
    """
    check_key(row["submit_key"])
    _check(row, _SUBMISSION)
    missing = [name for name in _JOB if row[name] is None]
    if missing and len(missing) < len(_JOB):
        raise ValueError(f"{missing[0]} must not be NULL in the row of a job")


def finite(lease: float) -> float:
    """Return the length or the end of a lease, or 0 for infinity and NaN.

    Such a lease would never run out, or never be seen to stand still.
    """
    return lease if math.isfinite(lease) else 0.0

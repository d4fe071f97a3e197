"""Ledgers: the record of each job's one billed call, before and after it is made.

A ledger stores `LedgerEntry` values by `Key` and changes them only through `step`, one
atomic and durable move at a time:

==========  =============================================================================
state       meaning
==========  =============================================================================
known       no billed call was ever sent, or every one of them is proven to be unbilled
claimed     one client is about to make the call; known again once that client is gone
armed       its first byte may have been sent; it can never be claimed again
stored      the paid response is in the ledger, and is served for ever
failed      the server said FAILED; never billed
uncertain   the call was sent and no usable response arrived; only the user's decision
            changes this
abandoned   a known or uncertain job that the user has given up; on no list, and never
            claimed without a new decision
delivered   paid for and delivered; its body was dropped to make room
==========  =============================================================================

A client counts as gone once another client has watched its lease stand still, by a monotonic
clock, for longer than the lease: see `Claim.takeover`. No move is granted or refused because
of the time of day, which jumps and differs between machines.

A ledger also stores a `Submission` for each key that was given to `submit`, by `SubmitKey`: the
key is reserved before the submit is sent, and then belongs to the job that the server returned.

To write your own ledger, implement the three methods of `Ledger`.
``apply`` is one transaction: read the entry or the submission, call `step` with your store's
clock, write it back if it changed or delete it if `step` says so, commit durably, and return
what `step` returned. Two ``apply`` calls for one key must never interleave. Then run
`modelmax_async.testing.check_ledger` on it.

A ledger that cannot keep every body may have another method, ``delivered(key: Key) -> None``.
The client calls it, without awaiting it, once a stored result has been returned to a caller.
The ledger may then move the entry to state ``delivered``, but must remember that it was paid
for.

A ledger may also keep what clients learn about how long jobs take, and tell clients that wait
of a change: see `KeepsDurations` and `NotifiesChanges`.

`PostgresLedger` is loaded at its first use; it needs the extra ``postgres``.
"""

from typing import TYPE_CHECKING, Any

from modelmax_async._models import Submission
from modelmax_async.ledger.attempts import observed
from modelmax_async.ledger.lists import Entries
from modelmax_async.ledger.memory import MemoryLedger
from modelmax_async.ledger.moves import (
    Arm,
    Bind,
    Claim,
    Fail,
    Forget,
    Look,
    MarkSaved,
    Move,
    Prune,
    Release,
    Remember,
    Renew,
    Reserve,
    Store,
    Uncertain,
)
from modelmax_async.ledger.notices import NotifiesChanges
from modelmax_async.ledger.protocol import (
    KeepsDurations,
    Key,
    Ledger,
    SubmitKey,
)
from modelmax_async.ledger.sqlite import SQLiteLedger
from modelmax_async.ledger.submissions import SubmitStep, as_known, step
from modelmax_async.ledger.transitions import Step

Doubt = Uncertain  # its former name: public import paths stay

__all__ = [
    "Arm",
    "Bind",
    "Claim",
    "Doubt",
    "Entries",
    "Fail",
    "Forget",
    "KeepsDurations",
    "Key",
    "Ledger",
    "Look",
    "MarkSaved",
    "MemoryLedger",
    "Move",
    "NotifiesChanges",
    "PostgresLedger",
    "Prune",
    "Release",
    "Remember",
    "Renew",
    "Reserve",
    "SQLiteLedger",
    "Step",
    "Store",
    "Submission",
    "SubmitKey",
    "SubmitStep",
    "Uncertain",
    "as_known",
    "observed",
    "step",
]

if TYPE_CHECKING:
    from modelmax_async.ledger.postgres import PostgresLedger
else:  # hidden from type checkers, which would accept any name

    def __getattr__(name: str) -> Any:
        """Load the ledger that needs an extra at its first use (PEP 562)."""
        if name != "PostgresLedger":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from modelmax_async.ledger.postgres import PostgresLedger  # noqa: PLC0415 - see above

        PostgresLedger.__module__ = __name__
        return globals().setdefault(name, PostgresLedger)


def __dir__() -> list[str]:
    return __all__


for _name in __all__:
    if _name not in {"Move", "PostgresLedger"}:  # a union has no module
        globals()[_name].__module__ = __name__

"""Ledgers: what is known of each job's one billed call, before and after it is made.

A ledger stores `LedgerEntry` values by `Key` and changes them only through `step`, one
atomic and durable move at a time:

==========  =============================================================================
state       meaning
==========  =============================================================================
known       nothing was ever sent to the billed endpoint, or it proved that nothing was
            billed
claimed     one client is about to make the call; free again once that client is gone
armed       its first byte may be on the wire; never claimable again
stored      the paid answer is here, and is served for ever
failed      the server said FAILED; never billed
uncertain   it was sent and no usable answer arrived; only the user's decision moves it
abandoned   an uncertain job that the user has given up; on no list
delivered   paid for and delivered; its body was dropped to make room
==========  =============================================================================

A client is taken for gone by another one that has watched its lease stand still, by a
monotonic clock, for longer than the lease: see `Claim.takeover`. No move is granted or refused
because of the time of day, which jumps and differs between machines.

To write a ledger of your own (PostgreSQL, Redis, …), implement `Ledger`: three methods.
``apply`` is one transaction: read the entry, call `step` with your store's clock, write the
entry back when it changed, commit durably, return what `step` returned. Two ``apply`` calls
on one key must never interleave. Then run `modelmax_async.testing.check_ledger` on it.

A ledger that cannot keep every body may have a further method, ``delivered(key: Key) -> None``:
it is called, and not awaited, once a stored result has been handed to a caller of the client.
It may turn the entry into state ``delivered`` then, and must not forget that it was paid for.
"""

from modelmax_async.ledger.memory import MemoryLedger
from modelmax_async.ledger.moves import (
    Arm,
    Claim,
    Doubt,
    Fail,
    Look,
    Move,
    Release,
    Remember,
    Renew,
    Store,
)
from modelmax_async.ledger.protocol import Key, Ledger
from modelmax_async.ledger.sqlite import SQLiteLedger
from modelmax_async.ledger.transitions import Step, observed, step

__all__ = [
    "Arm",
    "Claim",
    "Doubt",
    "Fail",
    "Key",
    "Ledger",
    "Look",
    "MemoryLedger",
    "Move",
    "Release",
    "Remember",
    "Renew",
    "SQLiteLedger",
    "Step",
    "Store",
    "observed",
    "step",
]

for _name in __all__:
    if _name != "Move":  # a union has no module
        globals()[_name].__module__ = __name__

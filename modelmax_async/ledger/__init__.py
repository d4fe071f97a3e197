"""Ledgers: what is known of each job's one billed call, before and after it is made.

A ledger stores `LedgerEntry` values by `Key` and changes them only through `step`, one
atomic and durable move at a time:

==========  =============================================================================
state       meaning
==========  =============================================================================
known       submitted or waited for; nothing was ever sent to the billed endpoint, or
            it proved that nothing was billed
claimed     one client is about to make the call; free again when its lease runs out
armed       its first byte may be on the wire; never claimable again
stored      the paid answer is here, and is served for ever
failed      the server said FAILED; never billed
uncertain   it was sent and no usable answer came; only the user's decision moves it
==========  =============================================================================

To write a ledger of your own (PostgreSQL, Redis, …), implement `Ledger`: three methods.
``apply`` is one transaction: read the entry, call `step` with your store's clock, write the
entry back when it changed, commit durably, return what `step` returned. Two ``apply`` calls
on one key must never interleave. Then run `modelmax_async.testing.check_ledger` on it.
"""

from modelmax_async._lifecycle import (
    Arm,
    Claim,
    Doubt,
    Fail,
    Move,
    Release,
    Remember,
    Renew,
    Step,
    Store,
    observed,
    step,
)
from modelmax_async.ledger._memory import MemoryLedger
from modelmax_async.ledger._protocol import Key, Ledger
from modelmax_async.ledger._sqlite import SQLiteLedger

__all__ = [
    "Arm",
    "Claim",
    "Doubt",
    "Fail",
    "Key",
    "Ledger",
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

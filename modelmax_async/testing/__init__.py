"""Helpers for tests of your own: the conformance suite of ledgers, and the emulator.

``check_ledger`` is what `MemoryLedger` and `SQLiteLedger` are tested with. Run it on a ledger
that you wrote; it raises `AssertionError` with a sentence about the promise that is broken.
"""

from __future__ import annotations

from modelmax_async.emulator import Emulator
from modelmax_async.ledger import Ledger
from modelmax_async.testing._answers import ANSWERS
from modelmax_async.testing._attempts import ATTEMPTS

__all__ = ["Emulator", "check_ledger"]


async def check_ledger(ledger: Ledger, other: Ledger | None = None) -> None:
    """Check every promise that the settler relies on.

    Args:
        ledger: the ledger, with any contents; jobs of an origin of its own are added.
        other: a second handle on the same store, such as another process would have.

    Raises:
        AssertionError: names the promise that is broken.
    """
    for check in (*ATTEMPTS, *ANSWERS):
        await check(ledger, other or ledger)

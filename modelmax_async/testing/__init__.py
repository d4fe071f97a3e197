"""Helpers for your own tests: the conformance suite for ledgers, and the emulator.

The ledgers of this package are tested with ``check_ledger``. Run it on your own ledger:
an `AssertionError` names the promise that it breaks.
"""

from __future__ import annotations

from modelmax_async.emulator import Emulator
from modelmax_async.ledger import Ledger
from modelmax_async.testing._attempts import ATTEMPTS
from modelmax_async.testing._keys import KEYS
from modelmax_async.testing._results import RESULTS
from modelmax_async.testing._upkeep import UPKEEP
from modelmax_async.testing._view import View

__all__ = ["Emulator", "check_ledger"]


async def check_ledger(ledger: Ledger, other: Ledger | None = None) -> None:
    """Check every promise that the settler relies on.

    Args:
        ledger: the ledger, with any contents; jobs of a separate origin are added.
        other: a second handle on the same store, as in another process.

    Raises:
        AssertionError: names the broken promise.
    """
    for check in (*ATTEMPTS, *RESULTS, *KEYS, *UPKEEP):
        view = View(ledger)
        await check(view, view.through(other or ledger))

"""Helpers for your own tests: a local ModelMax, virtual time, respx routes, ledger checks.

`modelmax_async.testing.fixtures` has the fixtures for pytest; it has to be opted into. This
module needs neither pytest nor, unless you use `queue_routes`, respx. The ledgers of this
package are tested with ``check_ledger``. Run it on your own ledger: an `AssertionError` names
the promise that it breaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelmax_async.emulator import Content, Emulator, Fault, JobScript
from modelmax_async.ledger import Ledger
from modelmax_async.testing._attempts import ATTEMPTS
from modelmax_async.testing._keys import KEYS
from modelmax_async.testing._modelmax import ModelMax
from modelmax_async.testing._results import RESULTS
from modelmax_async.testing._upkeep import UPKEEP
from modelmax_async.testing._view import View
from modelmax_async.testing._virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from modelmax_async.testing._respx import QueueRoutes, queue_routes

__all__ = [
    "Content",
    "Emulator",
    "Fault",
    "JobScript",
    "ModelMax",
    "QueueRoutes",
    "VirtualTimeLoop",
    "check_ledger",
    "queue_routes",
]

ModelMax.__module__ = VirtualTimeLoop.__module__ = __name__


def __getattr__(name: str) -> Any:
    if name not in ("QueueRoutes", "queue_routes"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from modelmax_async.testing import _respx  # noqa: PLC0415 - respx may not be installed

    return getattr(_respx, name)


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

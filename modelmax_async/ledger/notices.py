"""The optional part of a ledger that tells waiting clients of a change."""

import asyncio
from typing import Protocol, runtime_checkable

from modelmax_async.ledger.protocol import Key


@runtime_checkable
class NotifiesChanges(Protocol):
    """The optional part of a ledger that tells waiting clients of a change.

    A ledger that tells nothing, or too late, loses no money: clients also ask at intervals.
    """

    def changed(self, key: Key) -> asyncio.Future[None]:
        """Return a future that is done once another client may have ended the job's attempt.

        It is done when the entry becomes stored, failed, uncertain or abandoned, and whenever
        such a change may have been missed. The caller cancels it if nobody waits any more.

        Args:
            key: the key of a job's entry.
        """
        ...

"""A process for tests to kill: it waits for jobs through a ledger that strikes on cue.

Its one argument is JSON: ``url``, ``path``, ``ids``, ``lease`` in seconds, and perhaps
``strike``: the move, ``before`` or ``after`` it, and the signal the process sends itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from support import on_socket

from modelmax_async import SQLiteLedger
from modelmax_async._billing import leases
from modelmax_async.ledger import Key, Move, Step


class StrikingLedger(SQLiteLedger):
    """Kills or stops its process around the first move of a given kind."""

    strike: tuple[str, str, str] | None = None

    def _hit(self, move: Move, when: str) -> None:
        if self.strike is not None and self.strike[:2] == (type(move).__name__, when):
            number = getattr(signal, self.strike[2])
            self.strike = None
            print("struck", flush=True)  # noqa: T201 - the parent waits for it
            os.kill(os.getpid(), number)

    async def apply(self, key: Key, move: Move) -> Step | None:
        self._hit(move, "before")
        done = await super().apply(key, move)
        self._hit(move, "after")
        return done


async def main() -> None:
    told = json.loads(sys.argv[1])
    if told.get("lease"):
        leases.LEASE = told["lease"]
        leases.BEAT = told["lease"] / 4
    ledger = StrikingLedger(told["path"])
    if told.get("strike"):
        ledger.strike = tuple(told["strike"])
    async with on_socket(told["url"], ledger=ledger) as client:
        results = await client.gather_results(told["ids"], return_exceptions=True)
    print(json.dumps([type(result).__name__ for result in results]))  # noqa: T201 - its answer


asyncio.run(main())

"""A process for tests to kill: it waits for jobs through a ledger that strikes on cue.

Its one argument is JSON: ``url``, ``path``, ``ids``, and optionally ``lease`` in seconds and
``strike``: the move, ``before`` or ``after`` it, and the signal the process sends itself.
"""

from __future__ import annotations

import asyncio
import json
import sys

from ledgers import Striking
from support import on_socket

from modelmax_async._billing import heartbeat


async def main() -> None:
    told = json.loads(sys.argv[1])
    if told.get("lease"):
        heartbeat.LEASE = told["lease"]
        heartbeat.BEAT = told["lease"] / 4
    ledger = Striking(told["path"])
    if told.get("strike"):
        ledger.strike = tuple(told["strike"])
    async with on_socket(told["url"], ledger=ledger) as client:
        results = await client.gather_results(told["ids"], return_exceptions=True)
    print(json.dumps([type(result).__name__ for result in results]))  # noqa: T201 - its output


asyncio.run(main())

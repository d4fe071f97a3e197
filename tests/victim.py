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

from modelmax_async._billing import leases


async def main() -> None:
    options = json.loads(sys.argv[1])
    if options.get("lease"):
        leases.LEASE = options["lease"]
        leases.BEAT = options["lease"] / 4
    ledger = Striking(options["path"])
    if options.get("strike"):
        ledger.strike = tuple(options["strike"])
    async with on_socket(options["url"], ledger=ledger) as client:
        results = await client.gather_results(options["ids"], return_exceptions=True)
    print(json.dumps([type(result).__name__ for result in results]))  # noqa: T201 - its output


asyncio.run(main())

"""A process for tests to kill: it waits for jobs, or runs a batch of requests.

Its one argument is JSON: ``url``, ``path``, ``ids`` (or ``rows``, the number of requests of a
batch, and its ``directory``), and optionally ``lease`` in seconds and
``strike``: the move, ``before`` or ``after`` it, and the signal the process sends itself.
"""

from __future__ import annotations

import asyncio
import json
import sys

from ledgers import Striking
from support import on_socket

from modelmax_async import VideoRequest
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
        if "rows" in options:
            rows = [VideoRequest(f"row {n}", key=f"row-{n}") for n in range(options["rows"])]
            batch = client.generate_many(rows, max_jobs=8, directory=options["directory"])
            ends: list[object] = [outcome.error or outcome.result async for outcome in batch]
        else:
            ends = [*await client.gather_results(options["ids"], return_exceptions=True)]
    print(json.dumps([type(end).__name__ for end in ends]))  # noqa: T201 - its output


asyncio.run(main())

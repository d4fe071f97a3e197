"""A worker process of the `fleet` benchmark: it waits for the jobs that it is dealt.

A request id arrives on a line of its standard input. A JSON line on its standard output says
how the waiting ended, and how many moves this process has asked of the ledger so far. It exits
when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys

from benchmarks._local import MODEL
from benchmarks._postgres import CountingLedger
from modelmax_async import AsyncQueueClient, ModelMaxError, PollPolicy

_MAX_IN_FLIGHT = 32


async def work(url: str, dsn: str) -> None:
    """Wait for each job that arrives, many at once, until no more can arrive."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    ledger = CountingLedger(dsn)
    async with (
        AsyncQueueClient(
            api_key="sk-benchmark",
            base_url=url,
            model=MODEL,
            poll=PollPolicy(initial=0.2, maximum=1.0),
            ledger=ledger,
            max_in_flight=_MAX_IN_FLIGHT,
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):

        async def wait(request_id: str) -> None:
            try:
                result = await client.wait_for(request_id, timeout=120)
                end = "result" if result.request_id == request_id else "another job's result"
            except ModelMaxError as exc:
                end = type(exc).__name__
            print(json.dumps([request_id, end, ledger.moves]), flush=True)

        while line := await lines.readline():
            tasks.create_task(wait(line.decode().strip()))
    await ledger.aclose()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))

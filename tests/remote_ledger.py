"""A handle on a PostgreSQL ledger in another process: moves and answers go through pipes."""

from __future__ import annotations

import asyncio
import pickle
import struct
import sys
from collections.abc import Collection
from typing import Any

from modelmax_async import LedgerEntry, PostgresLedger
from modelmax_async._models import LedgerState
from modelmax_async.ledger import Key, Move, Step, SubmitKey, SubmitStep

_SIZE = struct.Struct("!I")


class RemoteLedger:
    """The ledger of a process that this one started."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._lock = asyncio.Lock()

    @classmethod
    async def start(cls, dsn: str, schema: str) -> RemoteLedger:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, __file__, dsn, schema)
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))

    async def _ask(self, method: str, *arguments: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self._lock:
            body = pickle.dumps((method, arguments))
            self.process.stdin.write(_SIZE.pack(len(body)) + body)
            (size,) = _SIZE.unpack(await self.process.stdout.readexactly(_SIZE.size))
            answer = pickle.loads(await self.process.stdout.readexactly(size))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        done: Step | SubmitStep | None = await self._ask("apply", key, move)
        return done

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        found: list[LedgerEntry] = await self._ask("entries", origin, states)
        return found

    async def aclose(self) -> None:
        await self._ask("aclose")

    async def stop(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()


async def main(dsn: str, schema: str) -> None:
    """Do what is asked for, until the pipe is closed."""
    ledger = PostgresLedger(dsn, schema=schema)
    loop = asyncio.get_running_loop()
    while head := await loop.run_in_executor(None, sys.stdin.buffer.read, _SIZE.size):
        body = await loop.run_in_executor(None, sys.stdin.buffer.read, _SIZE.unpack(head)[0])
        method, arguments = pickle.loads(body)
        try:
            answer = await getattr(ledger, method)(*arguments)
        except Exception as exc:  # noqa: BLE001 - the parent raises it
            answer = exc
        out = pickle.dumps(answer)
        sys.stdout.buffer.write(_SIZE.pack(len(out)) + out)
        sys.stdout.buffer.flush()
    await ledger.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

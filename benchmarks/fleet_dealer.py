"""Deals deliveries to worker processes and kills them: at least once, like a task queue.

A delivery whose worker is killed before it answers is dealt again, to any worker. A delivery
that ends in an error that may pass, such as a `LedgerError`, is dealt again too.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable

import attrs

from benchmarks._local import ROOT

#: The most deliveries of one worker that it has not answered.
_OPEN = 128
#: Ends after which a delivery is done.
_FINAL = frozenset({"result", "ResultUncertainError"})
#: The most ends that may pass, over all deliveries, before the run is given up.
_ERRORS = 10_000


@attrs.define(eq=False)
class Worker:
    """A running worker, its unanswered deliveries, and the moves that it has reported."""

    process: Process
    open: list[str] = attrs.field(factory=list)
    moves: int = 0


class Dealer:
    """Deals deliveries to ``count`` workers until each one is answered.

    Args:
        command: the arguments that start a worker after ``python -m``.
        count: how many workers run at once.
        deliveries: request ids, in the order in which they are dealt.
    """

    def __init__(self, command: tuple[str, ...], count: int, deliveries: Iterable[str]) -> None:
        self._command = command
        self._count = count
        self._queue = deque(deliveries)
        self._left = len(self._queue)
        self._workers: set[Worker] = set()
        self._done = asyncio.Event()
        self._answered = asyncio.Event()
        self.ends: Counter[str] = Counter()
        self.by_job: dict[str, set[str]] = {}
        self.moves = 0
        self.again = 0

    @property
    def answered(self) -> int:
        """How many deliveries are done."""
        return sum(self.ends[end] for end in _FINAL)

    async def run(self, strikes: dict[int, Callable[[], Awaitable[None]]]) -> None:
        """Deal everything; run each strike once that many deliveries are done."""
        keepers = [asyncio.create_task(self._keep()) for _ in range(self._count)]
        striking = asyncio.create_task(self._strike(strikes))
        done = asyncio.create_task(self._done.wait())
        try:
            await asyncio.wait([done, *keepers], return_when=asyncio.FIRST_COMPLETED)
            if not self._done.is_set():
                await asyncio.gather(*(each for each in keepers if each.done()))
            await asyncio.gather(striking, *keepers)
        finally:
            for task in (done, striking, *keepers):
                task.cancel()
            for worker in self._workers:
                worker.process.kill()

    async def kill_one(self, chance: random.Random) -> None:
        """Kill a worker with SIGKILL, as it stands; another one takes its place."""
        busy = [worker for worker in self._workers if worker.open]
        if busy:
            chance.choice(busy).process.kill()

    async def _strike(self, strikes: dict[int, Callable[[], Awaitable[None]]]) -> None:
        for at, strike in sorted(strikes.items()):
            while self.answered < at:
                self._answered.clear()
                await self._answered.wait()
            await strike()

    async def _keep(self) -> None:
        """Keep one worker running until every delivery is done."""
        while not self._done.is_set():
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", *self._command),
                cwd=ROOT,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
            )
            worker = Worker(process)
            self._workers.add(worker)
            try:
                await self._serve(worker)
            finally:
                self._workers.discard(worker)
                self.moves += worker.moves
                self.again += len(worker.open)
                self._queue.extend(worker.open)

    async def _serve(self, worker: Worker) -> None:
        """Deal to a worker until it exits."""
        process = worker.process
        assert process.stdin is not None
        assert process.stdout is not None
        filling = asyncio.create_task(self._fill(worker))
        while line := await process.stdout.readline():
            if not line.endswith(b"\n"):
                break  # killed while it wrote
            request_id, end, worker.moves = json.loads(line)
            worker.open.remove(request_id)
            self._answer(request_id, end)
        filling.cancel()
        process.stdin.close()
        await process.wait()

    async def _fill(self, worker: Worker) -> None:
        stdin = worker.process.stdin
        assert stdin is not None
        while not self._done.is_set():
            new = []
            while self._queue and len(worker.open) < _OPEN:
                new.append(self._queue.popleft())
                worker.open.append(new[-1])
            stdin.write("".join(f"{each}\n" for each in new).encode())
            try:
                await asyncio.wait_for(self._done.wait(), 0.01)
            except TimeoutError:
                continue
        stdin.close()

    def _answer(self, request_id: str, end: str) -> None:
        self.ends[end] += 1
        if end not in _FINAL:
            assert self.ends.total() - self.answered < _ERRORS, self.ends
            self._queue.append(request_id)
            return
        self._answered.set()
        self.by_job.setdefault(request_id, set()).add(end)
        self._left -= 1
        if not self._left:
            self._done.set()

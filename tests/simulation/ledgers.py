"""Each process's flaky handle on the store that it shares with others."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from modelmax_async import LedgerEntry, LedgerError
from modelmax_async.ledger import Key, Move, Step, SubmitKey, SubmitStep
from simulation.evidence import Moved
from simulation.judge import Judge
from simulation.loop import State
from simulation.processes import CLOCKS
from simulation.stores import Add, Shared, States, Store

if TYPE_CHECKING:
    from simulation.processes import Process
    from simulation.world import World


class Handle:
    """One process's handle on what it shares: slow, failing, hanging; without the moves."""

    def __init__(
        self, world: World, process: Process, store: Shared, judge: Judge, *, local: bool
    ) -> None:
        self._world = world
        self._process = process
        self._shared = store
        self._judge = judge
        self._local = local
        self._chance = world.stream(f"ledger of {process.name}")

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        """Make a move."""
        raise NotImplementedError

    async def entries(self, origin: str, states: States) -> list[LedgerEntry]:
        """List entries, as late and as unreliably as anything else."""
        wanted = sorted(states)
        found: list[LedgerEntry] = await self._submit(
            "list", lambda: self._shared.entries(origin, wanted)
        )
        return found

    async def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        """Load what was learnt."""
        found: dict[str, bytes] = await self._submit(
            "load durations", lambda: self._shared.load_durations(origin, version)
        )
        return found

    async def add_durations(self, origin: str, model: str, version: int, add: Add) -> bytes:
        """Add what was learnt. Cancelled, it stays sent."""
        record: bytes = await self._submit(
            "add durations", lambda: self._shared.add_durations(origin, model, version, add)
        )
        return record

    async def aclose(self) -> None:
        """Nothing is held here: the store is the world's."""

    def _submit(self, what: str, work: Callable[[], Any]) -> asyncio.Future[Any]:
        answer = asyncio.get_running_loop().create_future()
        operation = _Operation(self._world, self._process, self._local, work, answer)
        operation.start(self._chance, what)
        return answer


class FlakyLedger(Handle):
    """A handle on a store, whose moves fail before or after the commit."""

    def __init__(
        self, world: World, process: Process, store: Store, judge: Judge, *, local: bool
    ) -> None:
        super().__init__(world, process, store, judge, local=local)
        self._store = store

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        """Send a move to the store. Cancelled, it stays sent."""
        if isinstance(key, SubmitKey):
            bound: SubmitStep | None = await self._submit(
                type(move).__name__, lambda: self._store.apply(key, move)
            )
            return bound
        self._judge.asked(self._process, key, move)
        asked = self._world.loop.time()

        def work() -> Step | SubmitStep | None:
            before = self._store.peek(key)
            done = self._store.apply(key, move)
            after = self._store.peek(key)
            if isinstance(done, Step) and after is not None:
                seen = Moved(self._process, key, move, asked, before, done, after)
                self._judge.moved(seen)
            return done

        done: Step | None = await self._submit(type(move).__name__, work)
        return done


class _Operation:
    """One piece of work on its way to the store, and its answer on the way back."""

    def __init__(
        self,
        world: World,
        process: Process,
        local: bool,
        work: Callable[[], Any],
        answer: asyncio.Future[Any],
    ) -> None:
        self._world = world
        self._process = process
        self._local = local
        self._work = work
        self._answer = answer
        self._fault = ""
        self._outlives = True
        self._back = 0.0

    def start(self, chance: Random, what: str) -> None:
        """Draw what goes wrong, and be on the way."""
        world = self._world
        there, self._back = chance.uniform(0.0, 0.004), chance.uniform(0.0, 0.004)
        self._outlives = chance.random() < 0.5
        odds = [
            (0.10, "slow ledger", "slow"),
            (0.08, "failing ledger", "fails before the commit"),
            (0.08, "failing ledger", "fails after the commit"),
            (0.02, "hanging ledger", "hangs before the commit"),
            (0.02, "hanging ledger", "hangs after the commit"),
        ]
        for share, feature, name in odds:
            drawn = chance.random() < share
            if drawn and feature in world.features and not world.calm and not self._fault:
                self._fault = name
                world.inject(f"ledger {name}")
                world.log(self._process, f"ledger {name} at {what}")
        if self._fault == "slow":
            there, self._back = chance.uniform(0, 8), chance.uniform(0, 8)
        if self._fault == "hangs before the commit":
            world.when_calm(chance.uniform(20, 400), self._commit)
        else:
            if self._fault == "hangs after the commit":
                self._back = chance.uniform(20, 400)
            world.later(there, self._commit)

    def _commit(self) -> None:
        """Have the store do it, with the clocks that its ledger goes by."""
        if self._process.state is State.PAUSED and self._local:
            self._process.loop.call_soon(self._commit, context=self._process.context)
            return
        if self._process.state is State.CRASHED and not self._outlives:
            return
        if self._fault == "fails before the commit":
            self._world.later(self._back, self._fail)
            return
        context = contextvars.copy_context()
        context.run(CLOCKS.set, self._process.clocks)
        try:
            done = context.run(self._work)
        except LedgerError as exc:
            self._world.later(self._back, self._deliver, exc)
            return
        if self._fault == "fails after the commit":
            self._world.later(self._back, self._fail)
        elif self._fault == "hangs after the commit":
            self._world.when_calm(self._back, lambda: self._deliver(done))
        else:
            self._world.later(self._back, self._deliver, done)

    def _fail(self) -> None:
        self._deliver(LedgerError(f"injected: it {self._fault}"))

    def _deliver(self, done: Any) -> None:
        if self._answer.done():
            return
        if isinstance(done, Exception):
            self._answer.set_exception(done)
        else:
            self._answer.set_result(done)

"""Ledgers for tests: they record moves, act before or after a move, fail or hang."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection

from modelmax_async import LedgerEntry, LedgerError, MemoryLedger, SQLiteLedger
from modelmax_async._api.paths import make_job
from modelmax_async._models import LedgerState
from modelmax_async.ledger import (
    Arm,
    Claim,
    Key,
    Ledger,
    Move,
    Renew,
    Step,
    SubmitKey,
    SubmitStep,
)

OnMove = Callable[[Move], Awaitable[None]]


class Seen(MemoryLedger):
    """Records each move, and each job whose result was delivered, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[tuple[Key | SubmitKey, Move]] = []
        self.delivered_ids: list[str] = []

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        self.applied.append((key, move))
        return await super().apply(key, move)

    def delivered(self, key: Key) -> None:
        self.delivered_ids.append(key.request_id)
        super().delivered(key)

    def ids_of(self, kind: type[Move]) -> list[str]:
        """Return the request ids of the moves of one kind."""
        keys = [key for key, move in self.applied if isinstance(move, kind)]
        return [key.request_id for key in keys if isinstance(key, Key)]

    @property
    def kinds(self) -> list[str]:
        return [type(move).__name__ for _, move in self.applied]


class Armed(Seen):
    """Holds two jobs, ``reef`` and ``wreck``, armed; keeps every move from then on."""

    @classmethod
    async def make(cls) -> Armed:
        made = cls()
        for name in ("reef", "wreck"):
            key = Key("http://127.0.0.1:80", name)
            await made.apply(key, Claim(make_job("veo-3", name), "me", "a1", 10.0))
            await made.apply(key, Arm("a1", 10.0))
        made.applied.clear()
        return made

    @property
    def renewed(self) -> list[str]:
        return self.ids_of(Renew)


class Handle:
    """A handle on another ledger, as another process has it.

    ``before`` and ``after`` are awaited around each move.
    """

    def __init__(
        self, store: Ledger, *, before: OnMove | None = None, after: OnMove | None = None
    ) -> None:
        self.store = store
        self.before = before
        self.after = after

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        if self.before is not None:
            await self.before(move)
        done = await self.store.apply(key, move)
        if self.after is not None:
            await self.after(move)
        return done

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        return await self.store.entries(origin, states)

    async def aclose(self) -> None:
        """Leave the ledger open: others use it."""


class Losing(MemoryLedger):
    """Loses its entry at each move of one kind."""

    def __init__(self, kind: type[Move]) -> None:
        super().__init__()
        self.kind = kind

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        return None if isinstance(move, self.kind) else await super().apply(key, move)


class NeverCloses(MemoryLedger):
    """Hangs when it is closed."""

    async def aclose(self) -> None:
        await forever()


class Striking(SQLiteLedger):
    """Sends its own process a signal before or after the first move of one kind."""

    strike: tuple[str, str, str] | None = None

    def _hit(self, move: Move, when: str) -> None:
        if self.strike is not None and self.strike[:2] == (type(move).__name__, when):
            number = getattr(signal, self.strike[2])
            self.strike = None
            print("struck", flush=True)  # noqa: T201 - the parent process waits for this line
            os.kill(os.getpid(), number)

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        self._hit(move, "before")
        done = await super().apply(key, move)
        self._hit(move, "after")
        return done


class Pause:
    """Delays moves; ``reached`` is set at the first one."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.reached = asyncio.Event()

    async def __call__(self, _: Move) -> None:
        self.reached.set()
        await asyncio.sleep(self.seconds)


async def forever() -> None:
    """Never end, unless cancelled."""
    await asyncio.get_running_loop().create_future()


async def hang(_: Move) -> None:
    """Hang at a move."""
    await forever()


async def fail(_: Move) -> None:
    """Fail at a move with an error of the storage below the ledger."""
    raise OSError("the ledger is out of reach")


async def refuse(_: Move) -> None:
    """Fail at a move with an error of the ledger's own."""
    raise LedgerError("disk on fire")


def on(kind: type[Move], act: OnMove) -> OnMove:
    """Act on moves of one kind."""

    async def filtered(move: Move) -> None:
        if isinstance(move, kind):
            await act(move)

    return filtered


def once(act: OnMove) -> OnMove:
    """Act on the first move only."""
    moves = 0

    async def first(move: Move) -> None:
        nonlocal moves
        moves += 1
        if moves == 1:
            await act(move)

    return first


def states(ledger: MemoryLedger) -> list[LedgerState]:
    """Return the state of each job in the ledger."""
    return [entry.state for entry in ledger._entries.values()]

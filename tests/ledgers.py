"""Ledgers that keep what they were asked, wait on cue, fail, or hang."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from modelmax_async import LedgerEntry, MemoryLedger
from modelmax_async._models import LedgerState
from modelmax_async.ledger import Key, Ledger, Move, Step

OnMove = Callable[[Move], Awaitable[None]]


class Seen(MemoryLedger):
    """Keeps every move, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[tuple[Key, Move]] = []

    async def apply(self, key: Key, move: Move) -> Step | None:
        self.applied.append((key, move))
        return await super().apply(key, move)

    @property
    def kinds(self) -> list[str]:
        return [type(move).__name__ for _, move in self.applied]


class Handle:
    """A handle on another ledger, as another process has it.

    ``before`` and ``after`` are awaited round each move.
    """

    def __init__(
        self, store: Ledger, *, before: OnMove | None = None, after: OnMove | None = None
    ) -> None:
        self.store = store
        self.before = before
        self.after = after

    async def apply(self, key: Key, move: Move) -> Step | None:
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


async def forever() -> None:
    """Never end, unless cancelled."""
    await asyncio.get_running_loop().create_future()


async def hang(_: Move) -> None:
    """Hang at a move."""
    await forever()


def on(kind: type[Move], act: OnMove) -> OnMove:
    """Act on moves of one kind."""

    async def filtered(move: Move) -> None:
        if isinstance(move, kind):
            await act(move)

    return filtered

"""Ledgers that keep what they were asked, wait on cue, fail, or hang."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from modelmax_async import LedgerEntry, MemoryLedger
from modelmax_async._api.paths import make_job
from modelmax_async._models import LedgerState
from modelmax_async.ledger import Arm, Claim, Key, Ledger, Move, Renew, Step

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
        return [key.request_id for key, move in self.applied if isinstance(move, Renew)]


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

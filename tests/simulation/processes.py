"""Simulated processes: clocks of their own, and a life that others end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import httpx

from simulation.loop import OWNER, Scheduled, SimulationLoop, State

if TYPE_CHECKING:
    from modelmax_async import AsyncQueueClient
    from simulation.users import User

T = TypeVar("T")
#: Seconds since the epoch at which every world begins.
EPOCH = 1_700_000_000.0


@attrs.define
class Clocks:
    """What one machine believes the time to be; ``now`` is the world's."""

    offset: float = 0.0
    rate: float = 1.0
    boot: float = 1000.0

    def wall(self, now: float) -> float:
        """Seconds since the epoch: wrong, drifting, and set at any moment."""
        return EPOCH + self.offset + now * self.rate

    def boottime(self, now: float) -> float:
        """Seconds since a machine's start: nobody sets this one."""
        return self.boot + now


#: Whose clocks are read; a store on the same machine reads its caller's.
CLOCKS: ContextVar[Clocks] = ContextVar("simulated clocks")


class Process(Scheduled):
    """One process: a client, its users, its clocks."""

    def __init__(self, loop: SimulationLoop, name: str, clocks: Clocks) -> None:
        super().__init__()
        self.loop = loop
        self.name = name
        self.clocks = clocks
        self.client: AsyncQueueClient | None = None
        self.transport: Callable[[], httpx.AsyncBaseTransport]  # the way to the network
        self.closing = False
        self.refetches = False
        self.patience = 30.0
        self.pauses = 0
        #: What happens at the other ends of its connections if it is killed.
        self.at_crash: list[Callable[[], None]] = []
        self.notes: Callable[..., None]  # hears what a transaction of its decides
        self.users: list[User] = []
        self.context: Context = copy_context()
        self.context.run(OWNER.set, self)
        self.context.run(CLOCKS.set, clocks)

    def __repr__(self) -> str:
        return f"<{self.name} {self.state.value}>"

    @property
    def alive(self) -> bool:
        return self.state is not State.CRASHED

    def spawn(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a coroutine that lives and dies with this process."""
        return self.loop.create_task(coro, name=name, context=self.context.copy())

    def pause(self) -> None:
        if self.state is State.RUNNING:
            self.state = State.PAUSED
            self.pauses += 1

    def resume(self) -> None:
        if self.state is State.PAUSED:
            self.state = State.RUNNING
            self.loop.release(self)

    def crash(self) -> None:
        """Be gone between two instructions: no ``finally``, no further byte."""
        self.state = State.CRASHED
        self.dropped += self.held
        self.held = []
        for hang_up in self.at_crash:
            hang_up()

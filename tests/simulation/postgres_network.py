"""The connections of a simulated process to the PostgreSQL server, and what befalls them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import asyncpg
import attrs

from simulation.loop import State
from simulation.postgres_rows import Session
from simulation.postgres_server import IDLE, SCHEMA, PostgresStore

if TYPE_CHECKING:
    from simulation.postgres_handle import Made
    from simulation.processes import Process
    from simulation.world import World

#: How often a statement, or a connection, has each fault. A commit has it more often.
ODDS = (
    (0.03, "slow ledger", "is slow"),
    (0.02, "failing ledger", "breaks before it"),
    (0.02, "failing ledger", "breaks after it"),
    (0.005, "failing ledger", "restarts"),
    (0.004, "hanging ledger", "hangs before it"),
    (0.004, "hanging ledger", "hangs after it"),
)
_COMMIT = 4


def gone() -> Exception:
    """Return what asyncpg raises when a connection breaks in the middle of a statement."""
    made: Exception = asyncpg.exceptions.ConnectionDoesNotExistError("connection was closed")
    return made


@attrs.frozen
class Line:
    """The way of one process to the server. It stands in for the ledger's `Address`."""

    world: World
    process: Process
    server: PostgresStore
    chance: Random
    made: list[Made] = attrs.field(factory=list)
    where: str = "modelmax on simulated"
    schema: str = SCHEMA
    timeout: float = 10.0

    async def connect(self) -> Connection:
        """Return a connection, or raise what asyncpg raises without one."""
        fault = self.draw("a connection")
        await asyncio.sleep(self.chance.uniform(0.0, 0.01))
        if fault == "is slow":
            await asyncio.sleep(self.chance.uniform(0.0, 6.0))
        if fault.startswith("hangs"):
            await asyncio.sleep(self.timeout / 2)
            raise TimeoutError
        if fault.startswith("breaks"):
            raise ConnectionRefusedError("injected")
        if self.server.now() < self.server.down_until and not self.world.calm:
            raise asyncpg.CannotConnectNowError("the database system is starting up")
        connection = Connection(self, self.server.connect())
        self.process.at_crash.append(connection.crash)
        return connection

    def draw(self, what: str, times: int = 1) -> str:
        """Draw what goes wrong, and count it; "" is nothing."""
        found = ""
        for share, feature, name in ODDS:
            drawn = self.chance.random() < times * share
            if drawn and feature in self.world.features and not self.world.calm and not found:
                found = name
                self.world.inject(f"PostgreSQL {name}")
                self.world.log(self.process, f"PostgreSQL {name}: {what}")
        return found


class Connection:
    """What the ledger uses of a connection of asyncpg."""

    def __init__(self, line: Line, session: Session) -> None:
        self._line = line
        self._session = session
        self._closed = False
        self._sending = False  # a statement is on its way
        self._left = False  # the end of the connection comes after it

    def is_closed(self) -> bool:
        return self._closed

    def terminate(self) -> None:
        """Close it. The server hears of it at once, or when it looks."""
        if not self._closed:
            self._closed = True
            self._hang_up(0.8)

    def crash(self) -> None:
        """Be cut off, as the process or its machine is killed."""
        self._hang_up(0.7)

    async def close(self, timeout: float) -> None:
        """Close it in order."""
        self._closed = True
        self._line.server.end(self._session)

    async def fetch(self, query: str, *args: Any) -> Any:
        """Have a statement executed, and return what it returns."""
        return await self.execute(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self.execute(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self.execute(query, *args)

    async def execute(self, query: str, *args: Any) -> Any:
        """Send a statement, and wait for the answer. Cancelled, it stays sent."""
        if self._closed:
            raise asyncpg.InterfaceError("the connection is closed")
        line = self._line
        if query == "BEGIN":
            line.made.clear()
        ends = query.endswith(("COMMIT", "ROLLBACK"))
        made = tuple(line.made) if ends else ()
        answer = asyncio.get_running_loop().create_future()
        line.world.spawn(self._serve(query, args, made, answer))
        return await answer

    def _hang_up(self, share: float) -> None:
        """Let the server hear that nobody is there any more, with this probability."""
        line = self._line
        heard = line.chance.random() < share
        if heard and self._sending:
            self._left = True
        elif heard:
            line.world.later(line.chance.uniform(0.0, 0.05), line.server.end, self._session)

    def _break(self, answer: asyncio.Future[Any], error: BaseException) -> None:
        self._closed = True
        self._hang_up(0.5)
        if not answer.done():
            answer.set_exception(error)

    async def _serve(
        self,
        query: str,
        args: Sequence[Any],
        made: Sequence[Made],
        answer: asyncio.Future[Any],
    ) -> None:
        """Carry a statement to the server, have it executed, carry the answer back."""
        line, session, chance = self._line, self._session, self._line.chance
        commits = query.endswith("COMMIT")
        what = "COMMIT" if commits else query.split(maxsplit=1)[0]
        fault = line.draw(what, _COMMIT if commits else 1)
        slow = chance.choice(["there", "disk", "back"]) if fault == "is slow" else ""
        there, session.flush, back = (
            chance.uniform(0, 8 if slow == where else 0.001)
            for where in ("there", "disk", "back")
        )
        self._sending = True
        await asyncio.sleep(there)
        arrives = await self._arrives(fault)
        self._sending = False
        if not arrives:
            self._break(answer, gone())
            return
        done = await self._executed(query, args, made)
        if self._left:
            line.server.end(session)
        if fault == "breaks after it" or session.ended:
            self._break(answer, gone())
            return
        if fault == "hangs after it":
            await line.world.until_calm(chance.uniform(20, 400))
        await asyncio.sleep(back)
        if answer.done():
            return
        if isinstance(done, Exception):
            answer.set_exception(done)
        else:
            answer.set_result(done)

    async def _arrives(self, fault: str) -> bool:
        """Let happen what comes before the statement is executed, and return whether it is."""
        line, chance = self._line, self._line.chance
        if fault == "breaks before it":
            return False
        if fault == "hangs before it":
            await line.world.until_calm(chance.uniform(20, 400))
        if fault == "restarts":
            line.server.restart(chance.uniform(0, 6), kept=lambda: chance.random() < 0.5)
        dropped = line.process.state is State.CRASHED and chance.random() < 0.5
        return not (self._session.ended or dropped)

    async def _executed(self, query: str, args: Sequence[Any], made: Sequence[Made]) -> Any:
        """Return what the server returns or raises, and see that it does not idle for ever."""
        session, server = self._session, self._line.server
        session.uses += 1
        try:
            return await server.execute(session, query, args, made)
        except asyncpg.PostgresError as exc:
            return exc
        finally:
            if session.open:
                self._line.world.later(IDLE, self._idle, session.uses)

    def _idle(self, uses: int) -> None:
        """End a transaction in which nothing has happened since."""
        if self._session.open and self._session.uses == uses:
            self._line.world.log(self._line.process, "PostgreSQL ends an idle transaction")
            self._line.server.end(self._session)

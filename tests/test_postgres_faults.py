"""What a real PostgreSQL server and its network can do to a ledger, one fault after another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from postgres_server import Proxy, Server, proxied, session
from support import on_socket

from modelmax_async import Job, LedgerError, PostgresLedger
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator
from modelmax_async.events import BilledCallArmed, Event, LedgerFailed
from modelmax_async.ledger import Arm, Claim, Key, Look, Move, Remember, Step, Store
from modelmax_async.ledger.postgres_errors import Fault, explain, fault

pytestmark = pytest.mark.anyio
ORIGIN = "https://api.example:443"


async def take(ledger: PostgresLedger, job: Job, move: Move) -> Step:
    done = await ledger.apply(Key(ORIGIN, job.request_id), move)
    assert isinstance(done, Step)
    return done


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    async with proxied(dsn) as made:
        yield made


@pytest.fixture
async def role(dsn: str, schema: str) -> str:
    """The DSN of a role that may make a schema and nothing else; its name is the schema's."""
    async with session(dsn) as admin:
        await admin.execute(f"CREATE ROLE {schema} LOGIN")
        database = await admin.fetchval("SELECT current_database()")
        await admin.execute(f"GRANT CREATE ON DATABASE {database} TO {schema}")
    parts = urlsplit(dsn)
    return parts._replace(netloc=f"{schema}@{parts.netloc.rpartition('@')[2]}").geturl()


class Striking:
    """Does something at one of the pieces that the ledger sends."""

    def __init__(self, number: int, strike: Callable[[], Awaitable[str]]) -> None:
        self.left = number
        self.strike = strike

    async def __call__(self) -> str:
        self.left -= 1
        return await self.strike() if self.left == 0 else ""


@pytest.mark.parametrize("how", ["cut", "cut after", "terminate"])
async def test_connection_lost_at_each_step_loses_and_repeats_no_move(
    how: str, proxy: Proxy, dsn: str, schema: str
) -> None:
    """In a commit too: whether it was made is read back."""
    ledger, sound = PostgresLedger(proxy.dsn, schema=schema), PostgresLedger(dsn, schema=schema)
    await ledger.entries(ORIGIN, {"known"})

    async def strike() -> str:
        if how != "terminate":
            return how
        async with session(dsn) as admin:
            ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE"
            await admin.execute(f"{ending} '%{schema}%' AND pid <> pg_backend_pid()")
        return ""

    for step in range(1, 30):
        job = make_job("veo-3", f"{how}-{step}")
        await take(ledger, job, Remember(job))
        striking = proxy.on_piece = Striking(step, strike)
        claimed = await take(ledger, job, Claim(job, "me", "a", 10.0))
        armed = await take(ledger, job, Arm("a", 10.0))
        proxy.on_piece = None
        struck = striking.left <= 0
        found = (await take(sound, job, Look(job))).entry

        assert claimed.granted
        assert armed.granted
        assert armed.entry == found
        if not struck:
            break
    await ledger.aclose()
    await sound.aclose()

    assert not struck
    assert step > 6


@pytest.mark.timeout(60)  # it starts a server of its own
async def test_server_that_is_killed_and_started_again_loses_no_move(
    tmp_path: Path, schema: str
) -> None:
    server = await asyncio.to_thread(lambda: Server(_made(tmp_path / "server")))
    try:
        ledger = PostgresLedger(server.dsn, schema=schema)
        jobs = [make_job("veo-3", f"job-{n}") for n in range(150)]
        moves = 0

        async def work(job: Job) -> list[bool]:
            nonlocal moves
            granted = []
            for move in (Remember(job), Claim(job, "me", "a", 30.0), Arm("a", 30.0)):
                granted.append((await take(ledger, job, move)).granted)
                moves += 1
                await asyncio.sleep(0.01)
            granted.append((await take(ledger, job, Store(job, "a", b"{}"))).granted)
            return granted

        working = [asyncio.create_task(work(job)) for job in jobs]
        while moves < 100:
            await asyncio.sleep(0)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        granted = await asyncio.gather(*working)
        stored = await ledger.entries(ORIGIN, {"stored"})
        await ledger.aclose()
    finally:
        await asyncio.to_thread(server.stop)

    assert [[True] * 4] * len(jobs) == granted
    assert len(jobs) == len(stored)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


async def test_restored_backup_is_refused(dsn: str, schema: str) -> None:
    """A standby that was behind looks the same: the last commits are missing."""
    ledger = PostgresLedger(dsn, schema=schema)
    jobs = [make_job("veo-3", f"job-{n}") for n in range(3)]
    for job in jobs:
        await take(ledger, job, Remember(job))
    async with session(dsn) as admin:
        await admin.execute(f'UPDATE "{schema}".writers SET number = 1')  # noqa: S608 - made here
    ledger._parts().pool.writer.lose()

    for job in jobs[:2]:
        with pytest.raises(LedgerError, match="has lost transactions that it had committed"):
            await take(ledger, job, Look(job))
    await ledger.aclose()


async def test_row_that_a_session_locks_delays_no_other(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema, timeout=1.0)
    held, free = make_job("veo-3", "held"), make_job("veo-3", "free")
    await take(ledger, held, Remember(held))
    async with session(dsn) as admin, admin.transaction():
        await admin.execute(f'SELECT * FROM "{schema}".entries FOR UPDATE')  # noqa: S608 - made here
        claiming = asyncio.create_task(take(ledger, held, Claim(held, "me", "a", 10.0)))
        for n in range(5):
            await take(ledger, free, Remember(free) if n == 0 else Look(free))
        assert not claiming.done()
        with pytest.raises(LedgerError, match=r"its row is locked.*find it in pg_locks"):
            await claiming
        claiming = asyncio.create_task(take(ledger, held, Claim(held, "me", "b", 10.0)))
        await asyncio.sleep(0.1)

    assert (await claiming).granted
    await ledger.aclose()


async def test_table_that_a_session_locks_is_an_error_and_then_works(
    dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(dsn, schema=schema, timeout=1.2)
    jobs = [make_job("veo-3", f"job-{n}") for n in range(5)]
    await take(ledger, jobs[0], Remember(jobs[0]))
    async with session(dsn) as admin, admin.transaction():
        await admin.execute(f'LOCK TABLE "{schema}".entries')
        moves = (take(ledger, job, Remember(job)) for job in jobs)
        failed = await asyncio.gather(*moves, return_exceptions=True)

    assert [LedgerError] * 5 == [type(each) for each in failed]
    assert (await take(ledger, jobs[1], Remember(jobs[1]))).granted
    await ledger.aclose()


async def test_statement_that_takes_too_long_is_ended(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema, timeout=1.0)
    job = make_job("veo-3", "slow")
    await ledger.entries(ORIGIN, {"known"})
    async with session(dsn) as admin:
        await admin.execute(
            f'CREATE FUNCTION "{schema}".slow() RETURNS trigger LANGUAGE plpgsql AS '
            "$$ BEGIN PERFORM pg_sleep(60); RETURN new; END $$;"
            f'CREATE TRIGGER slow BEFORE INSERT ON "{schema}".entries FOR EACH ROW '
            f'EXECUTE FUNCTION "{schema}".slow()'
        )
        began = time.monotonic()
        with pytest.raises(LedgerError, match="did not answer in time"):
            await take(ledger, job, Remember(job))
        took = time.monotonic() - began
        await admin.execute(f'DROP TRIGGER slow ON "{schema}".entries')

    assert (await take(ledger, job, Remember(job))).granted
    assert took < 5
    await ledger.aclose()


async def test_role_without_free_connections_gets_one_later(
    role: str, dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(role, schema=schema, timeout=1.0)
    job = make_job("veo-3", "reef")
    async with session(dsn) as admin:
        await admin.execute(f"ALTER ROLE {schema} CONNECTION LIMIT 1")
    async with session(role):
        with pytest.raises(LedgerError, match="Raise its max_connections, or pass a lower"):
            await take(ledger, job, Remember(job))
        with pytest.raises(LedgerError, match="Raise its max_connections, or pass a lower"):
            await ledger.load_durations(ORIGIN, 1)
        with pytest.raises(LedgerError, match="Raise its max_connections, or pass a lower"):
            await ledger.add_durations(ORIGIN, "veo-3", 1, lambda _: b"")
        moving = asyncio.create_task(take(ledger, job, Remember(job)))
        await asyncio.sleep(0.1)

    assert (await moving).granted
    await ledger.aclose()


async def test_commit_is_on_the_disk_even_if_the_role_does_not_ask_for_it(
    role: str, dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(role, schema=schema)
    job = make_job("veo-3", "reef")
    async with session(dsn) as admin:
        await admin.execute(f"ALTER ROLE {schema} SET synchronous_commit = off")

    await take(ledger, job, Remember(job))
    setting = await ledger._parts().pool.writer.connection.fetchval("SHOW synchronous_commit")
    await ledger.aclose()

    assert setting == "on"


async def test_server_that_becomes_read_only_is_left_for_the_next_primary(
    role: str, dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(role, schema=schema, timeout=1.0)
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    async with session(dsn) as admin:
        await admin.execute(f"ALTER ROLE {schema} SET default_transaction_read_only = on")
        ledger._parts().pool.writer.lose()
        with pytest.raises(LedgerError, match="address of the primary"):
            await take(ledger, job, Claim(job, "me", "a", 10.0))
        moving = asyncio.create_task(take(ledger, job, Claim(job, "me", "a", 10.0)))
        await asyncio.sleep(0.1)
        await admin.execute(f"ALTER ROLE {schema} RESET default_transaction_read_only")

    assert (await moving).granted
    await ledger.aclose()


async def test_role_that_may_not_make_the_schema_is_told_so(dsn: str, schema: str) -> None:
    async with session(dsn) as admin:
        await admin.execute(f"CREATE ROLE {schema} LOGIN")
    parts = urlsplit(dsn)
    other = parts._replace(netloc=f"{schema}@{parts.netloc.rpartition('@')[2]}").geturl()
    ledger = PostgresLedger(other, schema=schema)
    job = make_job("veo-3", "reef")

    with pytest.raises(LedgerError, match="Let the role create the schema"):
        await take(ledger, job, Remember(job))


async def test_role_may_use_a_schema_that_was_made_for_it(dsn: str, schema: str) -> None:
    async with session(dsn) as admin:
        await admin.execute(f"CREATE ROLE {schema} LOGIN; CREATE SCHEMA AUTHORIZATION {schema}")
    parts = urlsplit(dsn)
    theirs = parts._replace(netloc=f"{schema}@{parts.netloc.rpartition('@')[2]}").geturl()
    ledger = PostgresLedger(theirs, schema=schema)
    job = make_job("veo-3", "reef")

    assert (await take(ledger, job, Remember(job))).granted
    await ledger.aclose()


async def test_schema_that_is_dropped_while_in_use_is_an_error(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    await ledger.entries(ORIGIN, {"known"})
    async with session(dsn) as admin:
        await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')

    with pytest.raises(LedgerError, match="The schema was dropped or replaced while in use"):
        await take(ledger, job, Look(job))
    with pytest.raises(LedgerError, match="The schema was dropped or replaced while in use"):
        await ledger.entries(ORIGIN, {"known"})
    await ledger.aclose()


async def test_slow_network_slows_moves_down_only(proxy: Proxy, schema: str) -> None:
    ledger = PostgresLedger(proxy.dsn, schema=schema)
    proxy.latency = 0.02
    jobs = [make_job("veo-3", f"job-{n}") for n in range(50)]

    done = await asyncio.gather(*(take(ledger, job, Remember(job)) for job in jobs))

    assert all(each.granted for each in done)
    await ledger.aclose()


async def _gone(dsn: str, pid: int) -> None:
    """Wait until a backend has ended: long before its time in a transaction is up."""
    async with session(dsn) as admin, asyncio.timeout(1):
        while await admin.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid):
            await asyncio.sleep(0.01)


async def test_stalled_connection_is_replaced(proxy: Proxy, dsn: str, schema: str) -> None:
    """What is left of it on the server is ended, so that it holds no lock."""
    ledger = PostgresLedger(proxy.dsn, schema=schema, timeout=3.0)
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))

    async def stall() -> str:
        asyncio.get_running_loop().call_soon(proxy.stall)
        return ""

    for step in (1, 3):  # BEGIN, and the lock
        old = ledger._parts().pool.writer.pid
        proxy.on_piece = Striking(step, stall)
        done = await take(ledger, job, Claim(job, "me", f"a{step}", 10.0))
        proxy.on_piece = None

        assert done.granted is (step == 1)
        await _gone(dsn, old)
    await ledger.aclose()


async def test_pooler_that_gives_each_transaction_a_connection_is_refused(
    dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    ledger._parts().pool.writer.pid += 1

    with pytest.raises(LedgerError, match="pool_mode = session"):
        await take(ledger, job, Remember(job))
    await ledger.aclose()


async def test_worker_without_its_ledger_makes_no_billed_call(
    proxy: Proxy, schema: str, emulator: Emulator, url: str
) -> None:
    ledger = PostgresLedger(proxy.dsn, schema=schema, timeout=0.5)
    async with on_socket(url, ledger=ledger) as client:
        job = await client.submit("a reef")
        proxy.gone = True
        proxy.cut()

        with pytest.raises(LedgerError, match="could not be used"):
            await client.wait_for(job, timeout=10)
        assert {} == emulator.billed
        proxy.gone = False
        await client.wait_for(job, timeout=10)

    assert {job.request_id: 1} == emulator.billed


async def test_ledger_lost_after_byte_0_gets_the_result_later(
    proxy: Proxy, dsn: str, schema: str, emulator: Emulator, url: str
) -> None:
    reported: list[LedgerFailed] = []

    def hook(event: Event) -> None:
        if isinstance(event, BilledCallArmed):
            proxy.gone = True
            proxy.cut()
        if isinstance(event, LedgerFailed):
            reported.append(event)

    ledger = PostgresLedger(proxy.dsn, schema=schema, timeout=0.5)
    sound = PostgresLedger(dsn, schema=schema)
    async with on_socket(url, ledger=ledger, hooks=[hook]) as client:
        job = await client.submit("a reef")
        result = await client.wait_for(job, timeout=15)
        again = await client.wait_for(job, timeout=15)
        proxy.gone = False
        origin = client._engine.settings.origin
        while not await sound.entries(origin, {"stored"}):
            await asyncio.sleep(0.05)
    await sound.aclose()

    assert result == again
    assert {job.request_id: 1} == emulator.billed
    assert job == reported[0].job


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (asyncpg.InvalidPasswordError("no"), Fault.FINAL, "Check user and password"),
        (asyncpg.InvalidCatalogNameError("no"), Fault.FINAL, "Create the database"),
        (asyncpg.UndefinedTableError("no"), Fault.FINAL, "dropped or replaced"),
        (
            asyncpg.InvalidSQLStatementNameError("no\nHINT: no"),
            Fault.FINAL,
            "pool_mode = session",
        ),
        (asyncpg.DeadlockDetectedError("no"), Fault.BUSY, "See the cause"),
        (asyncpg.CannotConnectNowError("no"), Fault.LOST, "starting up"),
        (asyncpg.InterfaceError("connection is closed"), Fault.LOST, "See the cause"),
        (ConnectionRefusedError(), Fault.LOST, "Check that the server runs"),
        (RuntimeError("?"), Fault.FINAL, "See the cause"),
    ],
)
def test_error_says_what_to_do(error: Exception, kind: Fault, advice: str) -> None:
    made = explain(error, "runs in films on db")

    assert kind is fault(error)
    assert advice in str(made)
    assert "HINT" not in str(made)
    assert "the ledger runs in films on db could not be used" in str(made)
    assert error is made.__cause__
    assert "may have taken effect" in str(explain(error, "runs", unknown=True))

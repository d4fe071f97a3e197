"""What a PostgreSQL ledger knows of its own commits: late ones, lost ones, other loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest
from postgres_server import Proxy, proxied, session
from remote_ledger import RemoteLedger

from modelmax_async import Job, LedgerError, PostgresLedger
from modelmax_async._api.paths import make_job
from modelmax_async.ledger import (
    Arm,
    Bind,
    Claim,
    Key,
    Look,
    Move,
    Remember,
    Reserve,
    Step,
    Store,
    SubmitKey,
    postgres_schema,
    postgres_writer,
)

pytestmark = pytest.mark.anyio
ORIGIN = "https://api.example:443"
LOST = "has lost transactions that it had committed"


async def take(ledger: PostgresLedger | RemoteLedger, job: Job, move: Move) -> Step:
    done = await ledger.apply(Key(ORIGIN, job.request_id), move)
    assert isinstance(done, Step)
    return done


async def pay(ledger: PostgresLedger, job: Job) -> None:
    """Record a paid result."""
    for move in (Claim(job, "me", "a", 10.0), Arm("a", 10.0), Store(job, "a", b"{}")):
        assert (await take(ledger, job, move)).granted


@pytest.fixture
async def set_role(dsn: str, schema: str) -> str:
    """The DSN of a login whose sessions begin with another role, which owns the schema."""
    async with session(dsn) as admin:
        database = await admin.fetchval("SELECT current_database()")
        await admin.execute(
            f"CREATE ROLE {schema}_owner; CREATE ROLE {schema} LOGIN;"
            f"GRANT CREATE ON DATABASE {database} TO {schema}_owner;"
            f"GRANT {schema}_owner TO {schema}; ALTER ROLE {schema} SET role = {schema}_owner"
        )
    parts = urlsplit(dsn)
    return parts._replace(netloc=f"{schema}@{parts.netloc.rpartition('@')[2]}").geturl()


@pytest.fixture
async def proxy(set_role: str) -> AsyncIterator[Proxy]:
    async with proxied(set_role) as made:
        yield made


class Next:
    """Gives faults to the next pieces that contain a text."""

    def __init__(self, proxy: Proxy, text: bytes, *faults: str) -> None:
        self._proxy, self._text = proxy, text
        self.faults = list(faults)
        proxy.on_piece = self

    async def __call__(self) -> str:
        return self.faults.pop(0) if self.faults and self._text in self._proxy.piece else ""


@pytest.mark.parametrize("ends", [True, False])
async def test_late_commit_is_never_taken_for_another_one(
    proxy: Proxy, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch, *, ends: bool
) -> None:
    """Whether or not the role may end the session that it comes from."""
    if not ends:
        monkeypatch.setattr(postgres_writer, "_END", "SELECT 1 / 0")
    ledger, sound = PostgresLedger(proxy.dsn, schema=schema), PostgresLedger(dsn, schema=schema)
    first, second = make_job("veo-3", "first"), make_job("veo-3", "second")
    await take(ledger, first, Remember(first))
    await take(ledger, second, Claim(second, "me", "b", 10.0))

    commits = Next(proxy, b"COMMIT", "late")
    claiming = asyncio.create_task(take(ledger, first, Claim(first, "me", "a", 10.0)))
    while commits.faults:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)  # it has connected again
    assert ends is claiming.done()
    commits.faults.append("cut")
    arming = asyncio.create_task(take(ledger, second, Arm("b", 10.0)))
    while commits.faults:
        await asyncio.sleep(0.01)
    proxy.late.set()
    armed, claimed = await arming, await claiming
    found = [(await take(sound, job, Look(job))).entry for job in (second, first)]
    await ledger.aclose()
    await sound.aclose()

    assert armed.granted
    assert claimed.granted
    assert [armed.entry, claimed.entry] == found


async def test_late_read_back_fences_nobody(proxy: Proxy, dsn: str, schema: str) -> None:
    ledger = PostgresLedger(proxy.dsn, schema=schema)
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    ledger._parts().pool.writer.lose()

    pieces: list[bytes] = []  # the statement, and then its execution

    async def late() -> str:
        pieces.extend([proxy.piece] if pieces or b"epoch < $2" in proxy.piece else [])
        return "late" if len(pieces) == 2 else ""

    proxy.on_piece = late
    await take(ledger, job, Look(job))
    proxy.late.set()
    await asyncio.sleep(0.2)

    assert (await take(ledger, job, Claim(job, "me", "a", 10.0))).granted
    await ledger.aclose()


async def test_session_of_a_lost_connection_is_ended_and_no_other(
    proxy: Proxy, dsn: str, schema: str
) -> None:
    ledger, other = (PostgresLedger(proxy.dsn, schema=schema) for _ in range(2))
    job = make_job("veo-3", "reef")
    for each in (ledger, other):
        await take(each, job, Remember(job))
    writer, kept = ledger._parts().pool.writer, other._parts().pool.writer.pid
    old, connection = writer.pid, writer.connection
    proxy.stall()
    writer.connection = None  # given up, and open

    await take(ledger, job, Look(job))
    async with session(dsn) as admin:
        there = "SELECT array_agg(pid) FROM pg_stat_activity WHERE pid = ANY($1)"
        async with asyncio.timeout(2):
            while await admin.fetchval(there, [old]):
                await asyncio.sleep(0.01)
        left = await admin.fetchval(there, [old, kept, writer.pid])
    connection.terminate()
    other._parts().pool.writer.lose()
    await ledger.aclose()

    assert {kept, writer.pid} == set(left)


async def _drop_and_make(dsn: str, schema: str) -> None:
    async with session(dsn) as admin:
        await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')
    other = PostgresLedger(dsn, schema=schema)
    await other.entries(ORIGIN, {"known"})
    await other.aclose()


async def _truncate(dsn: str, schema: str) -> None:
    async with session(dsn) as admin:
        await admin.execute(f'TRUNCATE "{schema}".entries, "{schema}".writers')


@pytest.mark.parametrize("empty", [_drop_and_make, _truncate])
async def test_tables_emptied_while_connected_are_refused_at_once_and_for_good(
    empty: Callable[..., object], dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(dsn, schema=schema, pool_size=1)
    job = make_job("veo-3", "reef")
    await pay(ledger, job)
    await empty(dsn, schema)  # type: ignore[misc]  # one of the two above
    began = time.monotonic()

    with pytest.raises(LedgerError, match=LOST):
        await take(ledger, job, Claim(job, "me", "b", 10.0))
    async with session(dsn) as admin:
        again = f'INSERT INTO "{schema}".writers (id, number) VALUES ($1, 99)'  # noqa: S608 - made here
        await admin.execute(again, ledger._parts().pool.writer.identity.id)
    with pytest.raises(LedgerError, match=LOST):
        await take(ledger, job, Claim(job, "me", "b", 10.0))
    with pytest.raises(LedgerError, match=LOST):
        await ledger.entries(ORIGIN, {"known"})
    took = time.monotonic() - began
    await ledger.aclose()

    assert took < 2


async def test_next_event_loop_notices_what_was_lost_since_the_last_one(
    dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    job = make_job("veo-3", "reef")

    async def run(move: Move | None) -> bool:
        try:
            if move is None:
                await pay(ledger, job)
            return move is None or (await take(ledger, job, move)).granted
        finally:
            await ledger.aclose()

    assert await asyncio.to_thread(asyncio.run, run(None))
    assert await asyncio.to_thread(asyncio.run, run(Look(job)))
    await _truncate(dsn, schema)
    with pytest.raises(LedgerError, match=LOST):
        await asyncio.to_thread(asyncio.run, run(Claim(job, "me", "b", 10.0)))


async def test_event_loops_at_the_same_time_are_writers_of_their_own(
    dsn: str, schema: str
) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    jobs = [make_job("veo-3", f"job-{n}") for n in range(4)]

    async def run(job: Job) -> object:
        for _ in range(5):
            await take(ledger, job, Remember(job))
            await pay(ledger, job) if _ == 0 else None
            await asyncio.sleep(0.01)
        identity = ledger._parts().pool.writer.identity
        await ledger.aclose()
        return identity

    rounds = [
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, run(job)) for job in each))
        for each in (jobs[:2], jobs[2:])
    ]

    assert [2, 2] == [len(set(each)) for each in rounds]
    assert set(rounds[0]) == set(rounds[1])


#: Makes the tables of version 1, with the rows that are in those of the newest one.
_AS_VERSION_1 = f"""
ALTER TABLE {{schema}}.entries RENAME TO entries_2;
ALTER TABLE {{schema}}.writers RENAME TO writers_2;
DROP TABLE {{schema}}.submissions, {{schema}}.durations;
DROP INDEX {{schema}}.entries_unfinished;
{postgres_schema.UPGRADES[0]}
INSERT INTO {{schema}}.entries OVERRIDING USER VALUE SELECT * FROM {{schema}}.entries_2;
INSERT INTO {{schema}}.writers SELECT id, number FROM {{schema}}.writers_2;
DROP TABLE {{schema}}.entries_2, {{schema}}.writers_2;
UPDATE {{schema}}.ledger SET version = 1
"""  # noqa: S608 - constants


async def test_tables_of_version_1_are_upgraded_with_their_rows_by_two_processes_at_once(
    dsn: str, schema: str
) -> None:
    job = make_job("veo-3", "reef")
    ledger = PostgresLedger(dsn, schema=schema)
    await pay(ledger, job)
    async with session(dsn) as admin:
        await admin.execute(_AS_VERSION_1.replace("{schema}", f'"{schema}"'))
    ledger._parts().pool.writer.lose()  # as if it had run all the time
    remotes = [await RemoteLedger.start(dsn, schema) for _ in range(2)]

    handles: list[PostgresLedger | RemoteLedger] = [ledger, *remotes]
    found = await asyncio.gather(*(take(each, job, Look(job)) for each in handles))
    more = make_job("veo-3", "more")
    granted = [(await take(each, more, Remember(more))).granted for each in handles]
    for remote in remotes:
        await remote.stop()
    await ledger.aclose()
    async with session(dsn) as admin:
        version = await admin.fetchval(f'SELECT version FROM "{schema}".ledger')  # noqa: S608 - made here

    assert ["stored"] * 3 == [each.entry.state for each in found]
    assert granted[0]
    assert len(postgres_schema.UPGRADES) == version


@pytest.mark.parametrize("pool_size", [1, 2])
@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("step", range(1, 5))
async def test_reading_cancelled_at_any_step_leaves_the_next_calls_alone(
    step: int, pool_size: int, dsn: str, schema: str, *, lists: bool
) -> None:
    async with proxied(dsn) as proxy:
        ledger = PostgresLedger(proxy.dsn, schema=schema, pool_size=pool_size)
        job = make_job("veo-3", "reef")
        await take(ledger, job, Remember(job))
        await ledger.load_durations(ORIGIN, 1)
        listed = ledger.entries(ORIGIN, {"known"})
        learnt = ledger.add_durations(ORIGIN, "veo-3", 1, lambda _: b"")
        reading: asyncio.Task[object] = asyncio.create_task(listed if lists else learnt)
        (learnt if lists else listed).close()
        pieces = 0

        async def cancel() -> str:
            nonlocal pieces
            pieces += 1
            if pieces == step:
                reading.cancel()
            return ""

        proxy.on_piece = cancel
        await asyncio.wait([reading])

        assert reading.cancelled()
        assert (await take(ledger, job, Look(job))).granted
        assert b"" == await ledger.add_durations(ORIGIN, "veo-3", 1, lambda _: b"")
        assert [job] == [each.job for each in await ledger.entries(ORIGIN, {"known"})]
        await ledger.aclose()


@pytest.mark.parametrize("pool_size", [1, 2])
async def test_list_misses_no_job_that_is_acknowledged_meanwhile(
    pool_size: int, dsn: str, schema: str
) -> None:
    sound = PostgresLedger(dsn, schema=schema)
    job, key = make_job("veo-3", "reef"), SubmitKey(ORIGIN, "row-17")
    await sound.apply(key, Reserve("print", "a", 10.0))
    await sound.apply(key, Bind("print", "a", job))
    async with proxied(dsn) as proxy:
        ledger = PostgresLedger(proxy.dsn, schema=schema, pool_size=pool_size)
        await ledger.load_durations(ORIGIN, 1)

        async def acknowledge() -> str:
            if b"AS submitted" in proxy.piece:
                await take(sound, job, Remember(job))
            return ""

        proxy.on_piece = acknowledge
        found = await ledger.entries(ORIGIN, {"known"})
        await ledger.aclose()
    acknowledged = (await take(sound, job, Look(job))).entry.acknowledged
    await sound.aclose()

    assert acknowledged
    assert ["reef"] == [entry.job.request_id for entry in found]

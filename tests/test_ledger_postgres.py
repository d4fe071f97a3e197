"""`PostgresLedger` against a real server: promises, moves that share, lists, arguments."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from postgres_server import proxied
from remote_ledger import RemoteLedger

import modelmax_async.ledger
from modelmax_async import Job, LedgerEntry, LedgerError, PostgresLedger
from modelmax_async._api.paths import make_job
from modelmax_async._runtime.clock import boottime
from modelmax_async.ledger import (
    Arm,
    Claim,
    Fail,
    Key,
    Look,
    Move,
    NotifiesChanges,
    Release,
    Remember,
    Reserve,
    Step,
    Store,
    SubmitKey,
    postgres_changes,
    postgres_schema,
)
from modelmax_async.ledger.postgres_address import Address
from modelmax_async.ledger.postgres_transaction import topic
from modelmax_async.testing import check_ledger

pytestmark = pytest.mark.anyio
ORIGIN = "https://api.example:443"


@pytest.fixture
async def ledger(dsn: str, schema: str) -> AsyncIterator[PostgresLedger]:
    made = PostgresLedger(dsn, schema=schema)
    yield made
    await made.aclose()


async def take(ledger: PostgresLedger, job: Job, move: Move) -> Step:
    done = await ledger.apply(Key(ORIGIN, job.request_id), move)
    assert isinstance(done, Step)
    return done


async def fetch(dsn: str, query: str, *arguments: Any) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def test_conforms_through_handles_of_two_processes(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    remote = await RemoteLedger.start(dsn, schema)

    await check_ledger(ledger, remote)
    await remote.stop()

    assert remote.process.returncode == 0


@pytest.mark.parametrize("pool_size", [1, 2, 4])
async def test_conforms_with_any_number_of_connections(
    dsn: str, schema: str, pool_size: int
) -> None:
    ledger = PostgresLedger(dsn, schema=schema, pool_size=pool_size)
    other = PostgresLedger(dsn, schema=schema, pool_size=pool_size)

    await check_ledger(ledger, other)
    used = await fetch(
        dsn, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE $1", f"%{schema}%"
    )
    await ledger.aclose()
    await other.aclose()

    assert used <= 2 * pool_size


async def test_moves_that_arrive_together_share_a_transaction(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    jobs = [make_job("veo-3", f"job-{n}") for n in range(100)]
    await take(ledger, make_job("veo-3", "first"), Remember(make_job("veo-3", "first")))

    await asyncio.gather(*(take(ledger, job, Remember(job)) for job in jobs))

    number = await fetch(dsn, f'SELECT number FROM "{schema}".writers')  # noqa: S608 - made here
    assert number <= 3


async def test_bodies_of_many_megabytes_are_not_stored_in_one_transaction(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    jobs = [make_job("veo-3", f"job-{n}") for n in range(6)]

    await asyncio.gather(*(take(ledger, job, Store(job, "a", b"x" * 2**23)) for job in jobs))

    number = await fetch(dsn, f'SELECT number FROM "{schema}".writers')  # noqa: S608 - made here
    assert number == 6


async def test_one_of_many_claims_at_once_is_granted(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    others = [PostgresLedger(dsn, schema=schema) for _ in range(3)]
    handles = [ledger, *others] * 5
    for n in range(5):
        job = make_job("veo-3", f"job-{n}")
        claims = (
            take(handle, job, Claim(job, "me", f"a{m}", 10.0))
            for m, handle in enumerate(handles)
        )

        done = await asyncio.gather(*claims)

        assert [True] == [each.granted for each in done if each.granted]
        assert 1 == len({each.entry.attempt for each in done})
    for each in others:
        await each.aclose()


async def test_move_that_cannot_be_recorded_fails_alone(ledger: PostgresLedger) -> None:
    good, bad = make_job("veo-3", "good"), make_job("veo-3", "bad")

    moves = await asyncio.gather(
        take(ledger, good, Remember(good)),
        take(ledger, bad, Claim(bad, "\0", "a", 10.0)),
        return_exceptions=True,
    )

    assert isinstance(moves[0], Step)
    assert isinstance(moves[1], LedgerError)
    assert "Nothing was recorded" in str(moves[1])


async def test_text_of_the_server_that_postgres_cannot_hold_is_replaced(
    ledger: PostgresLedger,
) -> None:
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))

    await take(ledger, job, Fail("broken\0 \ud800 é"))

    assert "broken\ufffd ? é" == (await take(ledger, job, Look(job))).entry.error


async def test_longest_request_id_is_found_again(ledger: PostgresLedger) -> None:
    job = make_job("veo-3", "é" * 4096)

    await take(ledger, job, Remember(job))

    assert job == (await take(ledger, job, Look(job))).entry.job


async def test_server_clock_counts(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("veo-3", "reef")
    before = (await take(ledger, job, Remember(job))).entry.since
    monkeypatch.setattr("time.time", lambda: before + 86_400)

    after = (await take(ledger, job, Claim(job, "me", "a", 10.0))).entry.since

    assert before <= after < before + 60


async def test_list_of_thousands_does_not_block_the_loop(ledger: PostgresLedger) -> None:
    jobs = [make_job("veo-3", f"job-{n:04}") for n in range(1500)]
    await asyncio.gather(*(take(ledger, job, Remember(job)) for job in jobs))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    found = await ledger.entries(ORIGIN, {"known"})
    counting.cancel()

    assert {job.request_id for job in jobs} == {entry.job.request_id for entry in found}
    assert turns > 10


async def test_reader_that_connects_while_another_ends_leaves_no_connection_open(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, connect, ended = ledger._parts().pool, Address.connect, asyncio.Event()

    async def late(address: Address) -> Any:
        connection = await connect(address)
        await ended.wait()
        return connection

    async with pool.reader():
        monkeypatch.setattr(Address, "connect", late)
        second = asyncio.create_task(ledger.entries(ORIGIN, {"known"}))
        await asyncio.sleep(0.1)
    ended.set()
    found = await second

    assert [] == found
    assert 2 == len(pool._idle)


async def test_reader_that_was_cut_off_is_replaced(ledger: PostgresLedger) -> None:
    await ledger.entries(ORIGIN, {"known"})
    ledger._parts().pool._idle[0].terminate()

    assert [] == await ledger.entries(ORIGIN, {"known"})


async def test_ledger_serves_one_event_loop_after_another(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    job = make_job("veo-3", "reef")

    def elsewhere() -> LedgerEntry:
        async def look() -> LedgerEntry:
            entry = (await take(ledger, job, Remember(job))).entry
            await ledger.aclose()
            return entry

        return asyncio.run(look())

    entries = [await asyncio.to_thread(elsewhere) for _ in range(2)]

    assert [job, job] == [entry.job for entry in entries]
    assert [] == list(ledger._loops.values())[2:]


async def test_fork_makes_connections_of_its_own(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema)
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    inherited = ledger._parts()
    ledger._pid -= 1

    assert inherited is not ledger._parts()

    await ledger.aclose()
    await inherited.aclose()


async def test_use_after_closing_connects_again(ledger: PostgresLedger) -> None:
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    await ledger.aclose()

    assert job == (await take(ledger, job, Look(job))).entry.job


async def test_closing_waits_for_moves_under_way(ledger: PostgresLedger) -> None:
    job = make_job("veo-3", "reef")
    moving = asyncio.create_task(take(ledger, job, Remember(job)))
    await asyncio.sleep(0)

    await ledger.aclose()

    assert moving.done() or (await moving).granted


async def test_closing_ends_while_others_use_the_ledger(dsn: str, schema: str) -> None:
    ledger = PostgresLedger(dsn, schema=schema, timeout=0.3)
    jobs = [make_job("veo-3", f"job-{n}") for n in range(4)]

    async def use(job: Job, after: float) -> None:
        await asyncio.sleep(after)
        while True:
            await take(ledger, job, Remember(job))

    using = [asyncio.create_task(use(job, n * 0.002)) for n, job in enumerate(jobs)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        await ledger.aclose()
    for each in using:
        each.cancel()
    await asyncio.wait(using)
    await ledger.aclose()


async def test_closing_ends_behind_a_list_that_hangs(dsn: str, schema: str) -> None:
    async with proxied(dsn) as proxy:
        ledger = PostgresLedger(proxy.dsn, schema=schema, pool_size=1, timeout=0.5)
        await ledger.entries(ORIGIN, {"known"})
        proxy.stall()
        listing = asyncio.create_task(ledger.entries(ORIGIN, {"known"}))
        await asyncio.sleep(0.1)

        async with asyncio.timeout(5):
            await ledger.aclose()
        listing.cancel()
        await asyncio.wait([listing])


async def test_cancelled_caller_changes_nothing_for_the_move(ledger: PostgresLedger) -> None:
    job = make_job("veo-3", "reef")
    moving = asyncio.create_task(take(ledger, job, Remember(job)))
    await asyncio.sleep(0)
    moving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await moving

    assert (await take(ledger, job, Look(job))).entry.acknowledged


async def test_program_that_cancels_all_tasks_loses_no_move(ledger: PostgresLedger) -> None:
    jobs = [make_job("veo-3", f"job-{n}") for n in range(20)]
    for number, job in enumerate(jobs):
        moving = asyncio.ensure_future(ledger.apply(Key(ORIGIN, job.request_id), Remember(job)))
        for _ in range(number):
            await asyncio.sleep(0.0003 if number > 1 else 0)  # 1: before its first step
        if (task := ledger._parts().moves._task) is not None:
            task.cancel()

        done = await moving

        assert isinstance(done, Step)
        assert done.granted


async def test_learnt_durations_and_keys_survive_a_new_handle(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    key = SubmitKey(ORIGIN, "row-17")
    await ledger.apply(key, Reserve("print", "a", 10.0))
    await ledger.add_durations(ORIGIN, "veo-3", 1, lambda _: b"\x00learnt")
    other = PostgresLedger(dsn, schema=schema)

    again = await other.apply(key, Reserve("print", "b", 10.0))
    learnt = await other.load_durations(ORIGIN, 1)
    await other.aclose()

    assert again is not None
    assert not again.granted
    assert {"veo-3": b"\x00learnt"} == learnt


async def test_release_of_a_job_wakes_nobody_and_a_result_does(
    ledger: PostgresLedger, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = make_job("veo-3", "reef"), PostgresLedger(dsn, schema=schema)
    assert isinstance(other, NotifiesChanges)
    monkeypatch.setattr(postgres_changes, "_BEAT", 0.01)
    first = other.changed(Key(ORIGIN, "reef"))
    await asyncio.wait_for(first, 5)  # connected: until then it may have missed a change

    news = other.changed(Key(ORIGIN, "reef"))
    unwanted = other.changed(Key(ORIGIN, "reef"))
    elsewhere = other.changed(Key(ORIGIN, "wreck"))
    for move in (Claim(job, "me", "a", 10.0), Arm("a", 10.0), Release("a")):
        await take(ledger, job, move)
    await asyncio.sleep(0.05)
    assert not news.done()
    unwanted.cancel()
    other._parts().changes._tell("nobody waits for this")
    await take(ledger, job, Store(job, "a", b"{}"))
    await asyncio.wait_for(news, 5)

    assert not elsewhere.done()
    elsewhere.cancel()
    await asyncio.sleep(0)
    await other.aclose()
    assert {} == other._parts().changes._awaited


async def test_future_that_is_cancelled_as_the_news_arrive_is_left_alone(
    ledger: PostgresLedger,
) -> None:
    key = Key(ORIGIN, "reef")
    await asyncio.wait_for(ledger.changed(key), 5)
    unwanted, news = ledger.changed(key), ledger.changed(key)
    unwanted.cancel()

    ledger._parts().changes._tell(topic(key))

    assert news.done()
    assert unwanted.cancelled()


async def test_broken_listener_connects_again_and_wakes_everybody(
    ledger: PostgresLedger, dsn: str
) -> None:
    first = ledger.changed(Key(ORIGIN, "reef"))
    await asyncio.wait_for(first, 5)
    news = ledger.changed(Key(ORIGIN, "reef"))

    listening = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE"
    ended = await fetch(dsn, f"{listening} 'LISTEN%{ledger._address.schema}%'")
    await asyncio.wait_for(news, 5)

    assert ended == 1


async def test_rows_of_processes_that_ended_long_ago_are_removed(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    old = f"UPDATE \"{schema}\".writers SET since = now() - interval '91 days'"  # noqa: S608 - made here
    await fetch(dsn, old)
    other = PostgresLedger(dsn, schema=schema)

    await take(other, job, Look(job))
    await other.aclose()

    assert 1 == await fetch(dsn, f'SELECT count(*) FROM "{schema}".writers')  # noqa: S608 - made here


@pytest.mark.parametrize(("days", "others"), [(2, 0), (95, 1)])
async def test_program_that_was_silent_for_long_has_lost_nothing(  # noqa: PLR0917 - fixtures
    days: int,
    others: int,
    ledger: PostgresLedger,
    dsn: str,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It connects again after a day; after 90, its row may have been removed."""
    job = make_job("veo-3", "reef")
    await take(ledger, job, Remember(job))
    writer = ledger._parts().pool.writer
    old = writer.pid
    if others:
        await fetch(dsn, f'DELETE FROM "{schema}".writers')  # noqa: S608 - made here
    later = boottime() + days * 86_400
    monkeypatch.setattr("modelmax_async.ledger.postgres_writer.boottime", lambda: later)

    claimed = await take(ledger, job, Claim(job, "me", "a", 10.0))

    assert claimed.granted
    assert old != writer.pid


async def test_newer_version_of_the_tables_is_refused(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    await ledger.entries(ORIGIN, {"known"})
    await fetch(dsn, f'UPDATE "{schema}".ledger SET version = 99')  # noqa: S608 - made here
    other = PostgresLedger(dsn, schema=schema)

    with pytest.raises(LedgerError, match="has version 99"):
        await other.entries(ORIGIN, {"known"})


async def test_tables_are_made_and_upgraded_once_by_many_at_once(
    dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = [PostgresLedger(dsn, schema=schema) for _ in range(6)]
    await asyncio.gather(*(each.entries(ORIGIN, {"known"}) for each in handles))
    for each in handles:
        await each.aclose()
    later = "ALTER TABLE {schema}.entries ADD COLUMN colour text;"
    monkeypatch.setattr(postgres_schema, "UPGRADES", (*postgres_schema.UPGRADES, later))
    job = make_job("veo-3", "reef")

    done = await asyncio.gather(*(take(each, job, Remember(job)) for each in handles))
    for each in handles:
        await each.aclose()
    version = await fetch(dsn, f'SELECT version FROM "{schema}".ledger')  # noqa: S608 - made here

    assert 1 == sum(each.granted for each in done)
    assert len(postgres_schema.UPGRADES) == version


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dsn": "runs.db"}, "dsn must be the address"),
        ({"dsn": 7}, "dsn must be the address"),
        ({"dsn": "postgresql://u:s3cret@h:port/d"}, "dsn must be the address"),
        ({"dsn": "postgresql://u:12/s3cret@h/d"}, "percent-encoded"),
        ({"dsn": "postgresql://u:12?s3cret@h/d"}, "percent-encoded"),
        ({"dsn": "postgresql://u:12#s3cret@h/d"}, "percent-encoded"),
        ({"schema": "a; drop"}, "schema must be a name of at most 48"),
        ({"schema": ""}, "schema must be a name of at most 48"),
        ({"pool_size": 0}, "pool_size must be an integer from 1"),
        ({"pool_size": True}, "pool_size must be an integer from 1"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"timeout": 2_147_484}, "timeout must be a number of seconds above 0 and at most"),
        ({"timeout": float("nan")}, "timeout must be a number of seconds above 0"),
    ],
)
def test_bad_arguments_are_refused_before_any_connection(
    arguments: dict[str, Any], message: str
) -> None:
    given = {"dsn": "postgresql://localhost/db", **arguments}

    with pytest.raises(ValueError, match=message) as caught:
        PostgresLedger(**given)

    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_ledger_takes_several_hosts_with_ports() -> None:
    ledger = PostgresLedger("postgresql://u:s3cret@one:5432,[::1]:5433,two/films")

    assert "<PostgresLedger: modelmax in films on one:5432,[::1]:5433,two>" == repr(ledger)


async def test_password_is_shown_nowhere() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        closed_port = closed.getsockname()[1]
    dsn = f"postgresql://someone:s3cret@127.0.0.1:{closed_port}/films"
    ledger = PostgresLedger(dsn, schema="runs", timeout=0.2)
    job = make_job("veo-3", "reef")

    with pytest.raises(LedgerError) as moved:
        await take(ledger, job, Remember(job))
    with pytest.raises(LedgerError) as listed:
        await ledger.entries(ORIGIN, {"known"})

    where = f"runs in films on 127.0.0.1:{closed_port}"
    assert f"<PostgresLedger: {where}>" == repr(ledger)
    for error in (moved.value, listed.value):
        assert f"the ledger {where} could not be used" in str(error)
        assert "Check that the server runs, and host and port in the DSN" in str(error)
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = [line for line in shown.format() if "dsn = " not in line]  # this test's own
        assert "s3cret" not in "".join(frames)


def test_ledger_without_asyncpg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("modelmax_async.ledger.postgres")
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(ImportError, match=re.escape('"modelmax-async[postgres]"')):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_ledger_package_imports_asyncpg_only_for_the_ledger_that_needs_it() -> None:
    script = (
        "import sys, modelmax_async.ledger\n"
        "modelmax_async.SQLiteLedger\n"
        "assert 'asyncpg' not in sys.modules\n"
        "assert modelmax_async.PostgresLedger is modelmax_async.ledger.PostgresLedger\n"
        "print(modelmax_async.PostgresLedger.__module__)"
    )
    ran = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=15
    )

    assert "modelmax_async.ledger\n" == ran.stdout


def test_ledger_package_has_no_other_late_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'RedisLedger'"):
        _ = modelmax_async.ledger.RedisLedger  # type: ignore[attr-defined]  # that is the point

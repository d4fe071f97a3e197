"""Damaged rows of a real PostgreSQL: each hides no other, and is never taken for a free job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from postgres_server import session
from support import ORIGIN, in_process

from modelmax_async import LedgerError, PostgresLedger
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator
from modelmax_async.events import EntryUnreadable, Event
from modelmax_async.ledger import (
    Bind,
    Claim,
    Entries,
    Key,
    Look,
    Remember,
    Reserve,
    Step,
    Store,
    SubmitKey,
)
from modelmax_async.ledger.postgres_tables import digest

pytestmark = pytest.mark.anyio
INF, NAN = float("inf"), float("nan")


@pytest.fixture
async def ledger(dsn: str, schema: str) -> AsyncIterator[PostgresLedger]:
    made = PostgresLedger(dsn, schema=schema)
    yield made
    await made.aclose()


async def damage(dsn: str, schema: str, name: str, change: str, *values: Any) -> None:
    """Change a row, whatever the constraints of its table say."""
    async with session(dsn) as connection:
        found = await connection.fetch(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = $1::regclass",
            f"{schema}.entries",
        )
        for (constraint,) in found:
            await connection.execute(
                f'ALTER TABLE "{schema}".entries DROP CONSTRAINT "{constraint}"'
            )
        query = f'UPDATE "{schema}".entries SET {change} WHERE request_id = $1'  # noqa: S608 - constants
        assert await connection.execute(query, name, *values) == "UPDATE 1"


async def remember(ledger: PostgresLedger, *names: str) -> None:
    for name in names:
        await ledger.apply(Key(ORIGIN, name), Remember(make_job("veo-3", name)))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ("state = 'sold'", "state must be a state of a job, got 'sold'"),
        ("since = 'NaN'", "since must be a number of seconds since the epoch, got nan"),
        ("saved_at = 'infinity'", "saved_at must be a number of seconds since the epoch"),
        ("model = ''", "model must be non-empty"),
        ("body = ''", "it is known, but has a body"),
        ("phase = 'sent'", "it is known, but has a phase"),
    ],
)
async def test_damaged_row_is_left_out_reported_and_not_fetched(  # noqa: PLR0917 - fixtures
    ledger: PostgresLedger, dsn: str, schema: str, emulator: Emulator, change: str, cause: str
) -> None:
    one, bad, other = (emulator.add_job(name) for name in ("one", "bad", "other"))
    await remember(ledger, one, bad, other)
    await damage(dsn, schema, bad, change)
    heard: list[Event] = []

    async with in_process(emulator, ledger=ledger, hooks=[heard.append]) as client:
        listed = await client.pending()
        await client.stored()
        with pytest.raises(LedgerError, match="cannot be read") as caught:
            await client.result(bad)
        results = await client.gather_results([one, bad, other], return_exceptions=True)

    assert [one, other] == [job.request_id for job in listed]
    assert cause in str(caught.value)
    assert {bad} == {e.request_id for e in heard if isinstance(e, EntryUnreadable)}
    assert ["Result", "LedgerError", "Result"] == [type(each).__name__ for each in results]
    assert {one: 1, other: 1} == emulator.billed


@pytest.mark.parametrize("change", ["lease = $2", "lease_until = $2"])
@pytest.mark.parametrize("value", [INF, -INF, NAN, 1e308])
async def test_absurd_lease_can_be_taken_over(
    ledger: PostgresLedger, dsn: str, schema: str, change: str, value: float
) -> None:
    job = make_job("veo-3", "reef")
    key = Key(ORIGIN, "reef")
    await ledger.apply(key, Claim(job, "gone", "a1", 10.0))
    await damage(dsn, schema, "reef", change, value)

    seen = [await ledger.apply(key, Look(job)) for _ in range(2)]
    assert isinstance(seen[0], Step)
    until = seen[0].entry.lease_until
    taken = await ledger.apply(key, Claim(job, "me", "a2", 10.0, takeover=until))

    assert seen[0] == seen[1]
    assert isinstance(taken, Step)
    assert taken.granted
    assert "a2" == taken.entry.attempt
    assert until != taken.entry.lease_until


async def test_row_with_the_digest_of_another_job_is_not_read(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    paid = make_job("veo-3", "paid")
    await ledger.apply(Key(ORIGIN, "paid"), Store(paid, "a1", b"{}"))
    await damage(dsn, schema, "paid", "digest = $2", digest(Key(ORIGIN, "reef")))

    with pytest.raises(LedgerError, match=r"row of job reef .*\(it is about paid\)"):
        await ledger.apply(Key(ORIGIN, "reef"), Look(make_job("veo-3", "reef")))


async def test_damaged_row_of_a_key_is_left_out_and_reserves_nothing(
    ledger: PostgresLedger, dsn: str, schema: str
) -> None:
    for number in (1, 2, 3):
        key, job = SubmitKey(ORIGIN, f"row-{number}"), make_job("veo-3", f"job-{number}")
        await ledger.apply(key, Reserve("f", "a1", 10.0))
        await ledger.apply(key, Bind("f", "a1", job))
    async with session(dsn) as connection:
        table = f'"{schema}".submissions'
        await connection.execute(
            f"UPDATE {table} SET status_url = NULL WHERE submit_key = 'row-2'"  # noqa: S608 - constants
        )
        await connection.execute(
            f"UPDATE {table} SET submit_key = 'row-4' WHERE submit_key = 'row-3'"  # noqa: S608 - constants
        )

    found = await ledger.entries(ORIGIN, {"known"})
    for number, text in (
        (2, "row of job job-2 .*status_url must not be NULL"),
        (3, "row of key row-3 .*it is about row-4"),
    ):
        with pytest.raises(LedgerError, match=text):
            await ledger.apply(SubmitKey(ORIGIN, f"row-{number}"), Reserve("f", "a2", 10.0))

    assert ["job-1", "job-3"] == [entry.job.request_id for entry in found]
    assert isinstance(found, Entries)
    assert ["row-2"] == [each.key for each in found.unreadable]

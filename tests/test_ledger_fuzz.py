"""Any value in any column of a ledger file: values or our own errors, and no second bill."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import ORIGIN, in_process, paid_body

from modelmax_async import AsyncQueueClient, LedgerError, ModelMaxError, SQLiteLedger
from modelmax_async._api.paths import make_job
from modelmax_async._models import LedgerState
from modelmax_async.emulator import Emulator
from modelmax_async.ledger import (
    Arm,
    Bind,
    Claim,
    Fail,
    Forget,
    Key,
    MarkSaved,
    Move,
    Prune,
    Remember,
    Store,
    SubmitKey,
    Uncertain,
)
from modelmax_async.ledger.columns import ENTRY, SUBMISSION
from modelmax_async.testing import VirtualTimeLoop

INF = float("inf")
#: The columns of a row, without those that say which job it is about.
COLUMNS = [name for name in (*ENTRY, "body") if name != "request_id"]


def _moves(name: str) -> dict[str, list[Move]]:
    """Return what leaves a job in each state, apart from ``known``."""
    job = make_job("veo-3", name)
    claim, arm = Claim(job, "gone", "a1", 10.0), Arm("a1", 10.0)
    unknown: list[Move] = [claim, arm, Uncertain("a1", "sent", "it broke")]
    paid: list[Move] = [Store(job, "a1", paid_body(name)), MarkSaved()]
    return {
        "known": [Remember(job)],
        "claimed": [claim],
        "armed": [claim, arm],
        "uncertain": unknown,
        "decided": [*unknown, Claim(job, "gone", "a2", 10.0, accept="a1")],
        "stored": paid,
        "delivered": [*paid, Prune(1e11)],
        "abandoned": [*unknown, Forget(name)],
        "failed": [claim, Fail("the provider refused it")],
    }


#: The states in which nothing can have been billed. The columns of a call that is armed differ
#: from those of a claim in nothing but the state.
FREE = {"known", "claimed", "failed"}
EVERY = frozenset(get_args(LedgerState))
STATES = list(_moves("any"))


async def _make(path: Path) -> None:
    ledger = SQLiteLedger(path)
    for name in STATES:
        for move in _moves(name)[name]:
            await ledger.apply(Key(ORIGIN, name), move)
    job = make_job("veo-3", "submitted")
    await ledger.apply(SubmitKey(ORIGIN, "row-1"), Bind("f", "a1", job))
    await ledger.aclose()


def _loosen(path: Path) -> None:
    """Take the constraints off the tables."""
    with closing(sqlite3.connect(path)) as db, db:
        for table, key in (("entries", "request_id"), ("submissions", "submit_key")):
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            db.execute(f"CREATE TABLE loose ({', '.join(names)}, UNIQUE (origin, {key}))")
            db.execute(f"INSERT INTO loose SELECT * FROM {table}")  # noqa: S608 - constants
            db.execute(f"DROP TABLE {table}")
            db.execute(f"ALTER TABLE loose RENAME TO {table}")
        db.execute("PRAGMA journal_mode = DELETE")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger file with a job in every state, and without constraints."""
    path = tmp_path_factory.mktemp("ledger") / "runs.db"
    asyncio.run(_make(path))
    _loosen(path)
    return path


def _run(path: Path, name: str) -> list[Exception]:
    """Use every list and call on the file, look at the bills, and return our own errors."""
    emulator = Emulator()
    for each in (*STATES, "submitted"):
        emulator.add_job(each)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        errors = runner.run(_use(path, name, emulator))

    assert emulator.billed[name] <= (name in FREE)
    assert emulator.billed["known"] <= 1
    return errors


async def _listed(path: Path) -> set[str]:
    ledger = SQLiteLedger(path)
    found = await ledger.entries(ORIGIN, EVERY)
    await ledger.aclose()
    return {entry.job.request_id for entry in found}


async def _use(path: Path, name: str, emulator: Emulator) -> list[Exception]:
    errors: list[Exception] = []

    async def tried(call: Awaitable[object], also: type[Exception] = ModelMaxError) -> None:
        try:
            await call
        except (ModelMaxError, also) as exc:
            errors.append(exc)

    async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
        for ask in _lists(client):
            await tried(ask())
        for each in (name, "known"):
            await tried(client.wait_for(each, timeout=60))
            await tried(client.result(each))
        await tried(client.forget(name), ValueError)  # it is paid for
        await tried(client.submit("A reef", key="row-1"))
        for ask in _lists(client):
            await tried(ask())
    return errors


def _lists(client: AsyncQueueClient) -> list[Callable[[], Awaitable[object]]]:
    return [
        client.pending,
        client.unresolved,
        client.stored,
        lambda: client.stored(unsaved=True),
        client.usage,
        lambda: client.prune(timedelta(0)),
    ]


def _spoilt(template: Path, query: str, *values: Any) -> Path:
    copy = Path(tempfile.mkdtemp(dir=template.parent)) / "runs.db"
    shutil.copyfile(template, copy)
    copy.chmod(0o600)
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute(query, values)
    return copy


values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from(
        [*STATES, "sent", "answered", "a1", "", "0", "/v1/other", 0, 1, 1e308, INF]
    ),
)
quick = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.untraced
@pytest.mark.timeout(120)
@quick
@given(state=st.sampled_from(STATES), column=st.sampled_from(COLUMNS), value=values)
@example("stored", "state", "known")
@example("stored", "state", "claimed")
@example("stored", "body", None)
@example("stored", "body", "")
@example("uncertain", "state", "known")
@example("uncertain", "state", "claimed")
@example("delivered", "state", "known")
@example("decided", "resting", None)
@example("decided", "resting", "known")
@example("armed", "state", "known")
@example("armed", "attempt", None)
@example("armed", "lease", INF)
@example("claimed", "lease", "long")
@example("claimed", "lease_until", 1e308)
@example("known", "submitted_at", INF)
@example("failed", "error", b"\xff")
@example("uncertain", "phase", None)
@example("uncertain", "cause", None)
@example("known", "response_url", "/v1/queue/veo-3/requests/stored")
def test_any_value_of_a_column_gives_values_or_our_errors(
    template: Path, state: str, column: str, value: object
) -> None:
    if (state, column, value) == ("armed", "state", "claimed"):
        return  # a claim, as it was before the call was armed
    query = f"UPDATE entries SET {column} = ? WHERE request_id = ?"  # noqa: S608 - constants
    path = _spoilt(template, query, value, state)

    listed = asyncio.run(_listed(path))
    _run(path, state)

    assert {*STATES, "submitted"} - {state} <= listed


@pytest.mark.untraced
@pytest.mark.timeout(120)
@quick
@given(column=st.sampled_from(["origin", *SUBMISSION]), value=values)
@example("model", None)
@example("request_id", b"\xff")
@example("attempt", "a2")
def test_any_value_of_a_key_gives_values_or_our_errors(
    template: Path, column: str, value: object
) -> None:
    path = _spoilt(template, f"UPDATE submissions SET {column} = ?", value)  # noqa: S608 - constants

    _run(path, "known")


@pytest.mark.untraced
@pytest.mark.timeout(120)
@quick
@given(
    table=st.sampled_from(["meta", "durations"]),
    row=st.tuples(values, values, values, values, values),
)
@example("meta", ("writes", "many", None, None, None))
@example("durations", ("veo-3", b"[]", 1, None, None))
def test_any_row_of_the_other_tables_gives_values_or_our_errors(
    template: Path, table: str, row: tuple[object, ...]
) -> None:
    query = (
        "INSERT OR REPLACE INTO meta SELECT ?1, ?2 WHERE ?1 IS NOT NULL AND ?2 IS NOT NULL"
        if table == "meta"
        else f"INSERT OR IGNORE INTO durations VALUES ('{ORIGIN}', ?1, ?3, 1.0, ?2)"  # noqa: S608 - constants
    )
    path = _spoilt(template, query, *(row[:2] if table == "meta" else row[:3]))

    _run(path, "known")


@pytest.mark.untraced
@pytest.mark.timeout(120)
@quick
@given(data=st.data())
def test_any_damage_to_the_file_gives_values_or_our_errors(
    template: Path, data: st.DataObject
) -> None:
    """Bytes are overwritten, and the file ends too early."""
    path = _spoilt(template, "SELECT 1")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=64))
        content[at : at + len(noise)] = noise
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(_use(path, "stored", Emulator()))  # no row need be what it was


@pytest.mark.parametrize("drop", ["entries", "submissions", "meta"])
def test_missing_table_is_named_and_says_what_to_do(template: Path, drop: str) -> None:
    path = _spoilt(template, f"DROP TABLE {drop}")

    errors = _run(path, "stored")

    found = [str(exc) for exc in errors if isinstance(exc, LedgerError)]

    assert found
    assert all(f"no such table: {drop}" in text for text in found)
    assert all("It is damaged or not a ledger" in text for text in found)

"""A client's view of its ledger: what is depended on, and what is only noted."""

from __future__ import annotations

import pytest
from ledgers import Handle
from support import in_virtual_time

from modelmax_async import LedgerError, MemoryLedger
from modelmax_async._api.paths import make_job
from modelmax_async._billing.leases import LeaseWatch
from modelmax_async._billing.records import Records
from modelmax_async._runtime.hooks import Hooks
from modelmax_async.events import Event, LedgerFailed
from modelmax_async.ledger import Arm, Key, Ledger, Move, Remember, Step

pytestmark = [pytest.mark.anyio, in_virtual_time]
JOB = make_job("veo-3", "reef")
ORIGIN = "http://127.0.0.1:80"


def records_of(ledger: Ledger, seen: list[Event]) -> Records:
    return Records(ledger, Hooks([seen.append]), ORIGIN, LeaseWatch(10.0))


async def test_move_that_the_ledger_has_no_job_for_is_an_error_where_it_is_depended_on() -> (
    None
):
    records = records_of(MemoryLedger(), [])

    with pytest.raises(LedgerError, match="lost an entry"):
        await records.apply(JOB, Arm("a1", 10.0))


async def test_note_that_the_ledger_does_not_take_is_reported_and_costs_nothing() -> None:
    async def refuse(_: Move) -> None:
        raise OSError("the disk is full")

    seen: list[Event] = []
    records = records_of(Handle(MemoryLedger(), before=refuse), seen)

    done = await records.note(JOB, Remember(JOB))

    assert done is None
    assert [LedgerFailed(JOB, "the disk is full")] == seen


async def test_note_that_the_ledger_takes_says_what_became_of_it() -> None:
    seen: list[Event] = []

    done = await records_of(MemoryLedger(), seen).note(JOB, Remember(JOB))

    assert isinstance(done, Step)
    assert ([], "known") == (seen, done.entry.state)


async def test_ledger_that_may_drop_bodies_hears_which_result_was_handed_out() -> None:
    class Noting(MemoryLedger):
        def delivered(self, key: Key) -> None:
            told.append(key)

    told: list[Key] = []
    records_of(Noting(), []).delivered(JOB)

    assert [Key(ORIGIN, "reef")] == told

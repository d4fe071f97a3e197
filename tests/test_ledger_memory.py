"""The ledger in memory: what it drops when it is full, and what it never drops."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time

import attrs
import pytest
from strategies import completed

from modelmax_async import Job, LedgerError, MemoryLedger
from modelmax_async._api.paths import make_job
from modelmax_async._models import LedgerEntry, LedgerState
from modelmax_async.ledger import (
    Arm,
    Claim,
    Fail,
    Key,
    Ledger,
    Look,
    Move,
    Release,
    Remember,
    Step,
    Store,
    Uncertain,
)

pytestmark = pytest.mark.anyio
ORIGIN = "https://api.modelmax.io:443"
EVERY: set[LedgerState] = {"known", "claimed", "armed", "stored", "failed", "uncertain"}
BODY = json.dumps(completed()).encode()


def key(name: str) -> Key:
    return Key(ORIGIN, name)


async def take(ledger: Ledger, name: str, move: Move) -> Step:
    done = await ledger.apply(key(name), move)

    assert isinstance(done, Step)
    return done


async def remember(ledger: Ledger, name: str) -> Step:
    return await take(ledger, name, Remember(make_job("veo-3", name)))


async def look(ledger: Ledger, name: str) -> LedgerEntry | None:
    done = await ledger.apply(key(name), Look(make_job("veo-3", name)))
    return done.entry if isinstance(done, Step) else None


async def store(ledger: Ledger, name: str, body: bytes = BODY) -> Step:
    return await take(ledger, name, Store(make_job("veo-3", name), f"of {name}", body))


async def deliver(ledger: MemoryLedger, name: str, body: bytes = BODY) -> None:
    await store(ledger, name, body)
    ledger.delivered(key(name))


async def claim(ledger: Ledger, name: str, attempt: str, accept: str | None = None) -> Step:
    return await take(ledger, name, Claim(make_job("veo-3", name), "me", attempt, 10, accept))


async def listed(ledger: Ledger, *states: LedgerState) -> list[str]:
    return [e.job.request_id for e in await ledger.entries(ORIGIN, states or EVERY)]


def sizes(ledger: MemoryLedger) -> tuple[int, int, int, int]:
    return len(ledger._entries), len(ledger._spare), len(ledger._given), ledger._body_bytes


@pytest.mark.parametrize("bound", ["max_entries", "max_body_bytes"])
@pytest.mark.parametrize("value", [0, -1])
def test_bounds_below_one_are_refused(bound: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{bound} must be at least 1, got {value}"):
        MemoryLedger(**{bound: value})


def test_bounds_by_default() -> None:
    ledger = MemoryLedger()

    assert (250_000, 256 * 2**20) == (ledger._max_entries, ledger._max_body_bytes)


def test_bounds_of_one_are_taken() -> None:
    ledger = MemoryLedger(max_entries=1, max_body_bytes=1)

    assert "<MemoryLedger: 0 jobs, 0 bytes of results>" == repr(ledger)


async def test_repr_counts_jobs_and_bytes() -> None:
    ledger = MemoryLedger(max_entries=1)
    await deliver(ledger, "a", b"x" * 10)
    await deliver(ledger, "b", b"x" * 10)

    assert "<MemoryLedger: 2 jobs, 10 bytes of results>" == repr(ledger)


# --- bytes ------------------------------------------------------------------------------------


async def test_full_memory_refuses_further_claims_and_keeps_its_results() -> None:
    ledger = MemoryLedger(max_body_bytes=100)
    await store(ledger, "old", b"x" * 80)
    claimed = await claim(ledger, "next", "a")
    await store(ledger, "large", b"y" * 20)

    with pytest.raises(LedgerError, match=r"holds 100 bytes.*No billed call was made: wait"):
        await claim(ledger, "more", "b")
    kept = await look(ledger, "old")

    assert claimed.granted
    assert await look(ledger, "more") is None
    assert kept is not None
    assert b"x" * 80 == kept.body


async def test_full_memory_still_answers_a_claim_that_is_refused_anyway() -> None:
    ledger = MemoryLedger(max_body_bytes=1)
    await store(ledger, "a")

    done = await claim(ledger, "a", "b")

    assert ("stored", BODY, False) == (done.entry.state, done.entry.body, done.granted)


async def test_full_memory_still_stores_a_paid_response() -> None:
    ledger = MemoryLedger(max_entries=1, max_body_bytes=1)
    await store(ledger, "first")

    await store(ledger, "second")

    assert ["first", "second"] == await listed(ledger, "stored")


async def test_oldest_delivered_bodies_are_dropped_first_and_no_more_than_needed() -> None:
    ledger = MemoryLedger(max_body_bytes=100)
    await store(ledger, "never given", b"x" * 20)
    for name in ("b", "a", "c"):
        await store(ledger, name, b"x" * 20)
    for name in ("a", "b", "c"):
        ledger.delivered(key(name))

    assert [] == await listed(ledger, "delivered")

    await store(ledger, "new", b"x" * 40)

    assert ["a"] == await listed(ledger, "delivered")
    assert ["never given", "b", "c", "new"] == await listed(ledger, "stored")
    assert (4, 0, 2, 100) == sizes(ledger)


async def test_claim_makes_room_for_its_response() -> None:
    ledger = MemoryLedger(max_body_bytes=100)
    await deliver(ledger, "a", b"x" * 100)

    done = await claim(ledger, "next", "a1")

    assert done.granted
    assert ["a"] == await listed(ledger, "delivered")


async def test_claim_drops_no_more_than_needed() -> None:
    ledger = MemoryLedger(max_body_bytes=100)
    await deliver(ledger, "a", b"x" * 99)

    await claim(ledger, "next", "a1")

    assert ["a"] == await listed(ledger, "stored")


async def test_full_memory_still_records_that_an_owner_is_gone() -> None:
    ledger = MemoryLedger(max_body_bytes=1)
    await claim(ledger, "a", "gone")
    armed = await take(ledger, "a", Arm("gone", 10))
    await store(ledger, "b")
    until = armed.entry.lease_until

    move = Claim(make_job("veo-3", "a"), "me", "next", 10, takeover=until)
    done = await take(ledger, "a", move)

    assert ("uncertain", False) == (done.entry.state, done.granted)


async def test_body_delivered_late_is_dropped_at_once_if_the_memory_is_full() -> None:
    ledger = MemoryLedger(max_body_bytes=10)
    await store(ledger, "a", b"x" * 20)

    ledger.delivered(key("a"))

    assert ["a"] == await listed(ledger, "delivered")
    assert (0, 0, 0, 0) == sizes(ledger)


async def test_only_stored_results_can_be_delivered() -> None:
    ledger = MemoryLedger(max_entries=4, max_body_bytes=1)
    await remember(ledger, "known")
    await claim(ledger, "claimed", "a")
    await deliver(ledger, "gone")
    before = sizes(ledger)

    for name in ("known", "claimed", "gone", "never seen"):
        ledger.delivered(key(name))

    assert before == sizes(ledger)
    assert ["known", "claimed"] == await listed(ledger)


async def test_delivered_twice_is_delivered_once() -> None:
    ledger = MemoryLedger()
    await deliver(ledger, "a", b"x" * 10)
    ledger.delivered(key("a"))

    assert (1, 0, 1, 10) == sizes(ledger)
    assert 10 == ledger._given_bytes


async def test_response_that_replaces_a_delivered_one_is_undelivered() -> None:
    ledger = MemoryLedger(max_body_bytes=1000)
    await deliver(ledger, "a", b"not readable")

    await take(ledger, "a", Store(make_job("veo-3", "a"), "another", BODY))
    await store(ledger, "large", b"x" * 2000)

    assert (0, 2000 + len(BODY)) == (ledger._given_bytes, ledger._body_bytes)
    assert ["a", "large"] == await listed(ledger, "stored")


# --- dropped bodies ---------------------------------------------------------------------------


@pytest.fixture
async def dropped() -> MemoryLedger:
    """A ledger whose job "a" was paid for and delivered, and whose body was dropped."""
    ledger = MemoryLedger(max_body_bytes=1)
    await deliver(ledger, "a")
    return ledger


async def test_dropped_job_is_refused_with_its_state(dropped: MemoryLedger) -> None:
    job = make_job("veo-3", "a")
    seen = await look(dropped, "a")
    moves: list[Move] = [
        Claim(job, "me", "b", 10),
        Remember(job),
        Release("of a"),
        Fail("no"),
        Arm("b", 1),
    ]
    said = [await take(dropped, "a", move) for move in moves]

    assert seen is not None
    assert (job, "delivered", "of a", None) == (seen.job, seen.state, seen.attempt, seen.body)
    assert abs(time.time() - seen.since) < 10
    assert [(seen, False)] * 5 == [(done.entry, done.granted) for done in said]


async def test_dropped_job_is_listed_as_delivered(dropped: MemoryLedger) -> None:
    await remember(dropped, "b")

    assert ["b"] == await listed(dropped)
    assert ["a"] == await listed(dropped, "delivered")
    assert ["a", "b"] == await listed(dropped, "delivered", "known")
    assert [] == await dropped.entries("https://elsewhere.invalid:443", {"delivered"})


async def test_dropped_job_is_fetched_again_after_a_decision(dropped: MemoryLedger) -> None:
    wrong = await claim(dropped, "a", "b", accept="another")
    held = await claim(dropped, "a", "b", accept="of a")
    while_held = await listed(dropped, "delivered")
    await take(dropped, "a", Arm("b", 10))
    paid = await take(dropped, "a", Store(make_job("veo-3", "a"), "b", BODY))

    assert not wrong.granted
    assert held.granted
    assert [] == while_held
    assert ("stored", "b", BODY) == (paid.entry.state, paid.entry.attempt, paid.entry.body)
    assert ["a"] == await listed(dropped, "stored")
    assert [] == await listed(dropped, "delivered")


@pytest.mark.parametrize("end", [Release("b"), Fail("no", "b")])
async def test_unbilled_decided_call_leaves_the_job_delivered(
    dropped: MemoryLedger, end: Move
) -> None:
    await claim(dropped, "a", "b", accept="of a")
    done = await take(dropped, "a", end)

    assert ("delivered", "of a") == (done.entry.state, done.entry.attempt)
    assert (0, 0, 0, 0) == sizes(dropped)
    assert not (await claim(dropped, "a", "c")).granted
    assert (await claim(dropped, "a", "c", accept="of a")).granted


async def test_uncertain_decided_call_stays_uncertain(dropped: MemoryLedger) -> None:
    await claim(dropped, "a", "b", accept="of a")
    await take(dropped, "a", Arm("b", 10))
    await take(dropped, "a", Uncertain("b", "sent", "it broke off"))

    assert ["a"] == await listed(dropped, "uncertain")
    assert not (await claim(dropped, "a", "c", accept="of a")).granted


@pytest.mark.parametrize(
    "job",
    [
        make_job("veo-3", "a/b=é"),
        Job("veo-3", "a/b=é"),
        Job("veo-3", "a/b=é", "/else/where/status", "/else/where"),
        make_job("veo-3", "another id than the key's"),
    ],
)
async def test_dropped_job_is_returned_equal(job: Job) -> None:
    ledger = MemoryLedger(max_body_bytes=1)
    await ledger.apply(key("a/b=é"), Store(job, "a1", BODY))
    ledger.delivered(key("a/b=é"))
    found = await ledger.entries(ORIGIN, {"delivered"})

    assert [job] == [entry.job for entry in found]


async def test_dropped_jobs_are_kept_small_and_without_limit() -> None:
    ledger = MemoryLedger(max_entries=2, max_body_bytes=1)
    for number in range(1000):
        await deliver(ledger, f"job {number}")

    assert (0, 0, 0, 0) == sizes(ledger)
    assert 1000 == len(await listed(ledger, "delivered"))
    assert all(kept.job is None for kept in ledger._dropped.values())
    assert not (await claim(ledger, "job 0", "again")).granted


# --- entries ----------------------------------------------------------------------------------


async def test_delivered_results_are_dropped_before_a_job_is_forgotten() -> None:
    ledger = MemoryLedger(max_entries=3)
    await remember(ledger, "waiting")
    await deliver(ledger, "given")
    await deliver(ledger, "given too")

    await remember(ledger, "next")

    assert ["waiting", "next"] == await listed(ledger, "known")
    assert ["given"] == await listed(ledger, "delivered")
    assert ["given too"] == await listed(ledger, "stored")


async def test_full_memory_then_forgets_the_oldest_known_or_failed_jobs() -> None:
    ledger = MemoryLedger(max_entries=4)
    await store(ledger, "paid")
    await remember(ledger, "failed")
    await take(ledger, "failed", Fail("no"))
    await remember(ledger, "known")
    await remember(ledger, "claimed")
    await claim(ledger, "claimed", "a")

    await remember(ledger, "new")
    first = await listed(ledger)
    await remember(ledger, "newer")

    assert ["paid", "known", "claimed", "new"] == first
    assert ["paid", "claimed", "new", "newer"] == await listed(ledger)


async def test_full_memory_refuses_new_jobs_if_it_can_forget_none() -> None:
    ledger = MemoryLedger(max_entries=2)
    await store(ledger, "paid")
    await remember(ledger, "waiting")
    await store(ledger, "paid too")

    for move in (
        Claim(make_job("veo-3", "next"), "me", "a", 10),
        Remember(make_job("m", "next")),
    ):
        with pytest.raises(
            LedgerError, match=r"is full: all of its 2 jobs.*No billed call was made: wait"
        ):
            await ledger.apply(key("next"), move)

    assert ["paid", "paid too"] == await listed(ledger)


async def test_uncertain_jobs_and_calls_in_progress_are_never_forgotten() -> None:
    ledger = MemoryLedger(max_entries=3)
    await remember(ledger, "open")
    await remember(ledger, "claimed")
    for name in ("open", "claimed", "armed"):
        await claim(ledger, name, "a")
    await take(ledger, "open", Arm("a", 10))
    await take(ledger, "armed", Arm("a", 10))
    await take(ledger, "open", Uncertain("a", "sent", "it broke off"))

    with pytest.raises(LedgerError, match="uncertain, in progress"):
        await remember(ledger, "next")

    assert ["open", "claimed", "armed"] == await listed(ledger)


async def test_response_of_a_recorded_job_displaces_no_other() -> None:
    ledger = MemoryLedger(max_entries=2)
    await remember(ledger, "a")
    await remember(ledger, "b")

    await store(ledger, "a")
    await claim(ledger, "b", "x")

    assert ["a", "b"] == await listed(ledger)


async def test_response_without_an_entry_makes_room_for_itself() -> None:
    ledger = MemoryLedger(max_entries=1)
    await remember(ledger, "waiting")

    await store(ledger, "paid")

    assert ["paid"] == await listed(ledger)


async def test_released_job_can_be_forgotten() -> None:
    ledger = MemoryLedger(max_entries=1)
    await claim(ledger, "a", "x")
    await take(ledger, "a", Release("x"))

    await remember(ledger, "b")

    assert ["b"] == await listed(ledger)


async def test_fetching_a_dropped_job_again_needs_room(
    dropped: MemoryLedger,
) -> None:
    dropped._max_entries = 1
    await claim(dropped, "b", "x")

    with pytest.raises(LedgerError, match="is full"):
        await claim(dropped, "a", "y", accept="of a")

    assert ["a"] == await listed(dropped, "delivered")


@pytest.mark.untraced
@pytest.mark.timeout(90)  # coverage makes it ten times slower
async def test_no_move_scans_a_full_memory() -> None:
    """A scan of all entries for each move would take seconds here."""
    ledger = MemoryLedger(max_entries=16_000)
    for number in range(8_000):
        await store(ledger, f"paid {number}", b"")
    for number in range(8_000):
        await deliver(ledger, f"given {number}", b"")
    started = time.perf_counter()

    for number in range(1000):
        await remember(ledger, f"new {number}")

    assert time.perf_counter() - started < 1
    assert 1000 == len(await listed(ledger, "delivered"))


# --- warnings ---------------------------------------------------------------------------------


def _warnings(caplog: pytest.LogCaptureFixture) -> int:
    found = [record for record in caplog.records if record.name == "modelmax_async"]

    assert all("MemoryLedger is nearly full" in record.getMessage() for record in found)
    assert all(logging.WARNING == record.levelno for record in found)
    return len(found)


async def test_warning_is_logged_once_at_four_fifths_of_the_jobs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = MemoryLedger(max_entries=10)
    await deliver(ledger, "given")
    await remember(ledger, "known")
    for name in "abcdefg":
        await store(ledger, name)
    before = _warnings(caplog)

    await store(ledger, "h")
    at_once = _warnings(caplog)
    await store(ledger, "i")

    assert (0, 1, 1) == (before, at_once, _warnings(caplog))
    assert "8 of 10 jobs" in caplog.text


async def test_warning_is_logged_again_after_there_was_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = MemoryLedger(max_entries=10)
    for name in "abcdefgh":
        await store(ledger, name)
    for name in "ab":
        ledger.delivered(key(name))  # six are left: not yet calm
    for name in "ij":
        await store(ledger, name)
    still = _warnings(caplog)
    for name in "cdefgh":
        ledger.delivered(key(name))
    for number in range(6):
        await store(ledger, f"{number}")

    assert (1, 2) == (still, _warnings(caplog))


async def test_warning_is_logged_at_four_fifths_of_the_bytes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = MemoryLedger(max_body_bytes=100)
    await deliver(ledger, "given", b"x" * 15)
    await store(ledger, "a", b"x" * 79)
    before = _warnings(caplog)
    await store(ledger, "b", b"x")

    assert (0, 1) == (before, _warnings(caplog))
    assert "80 of 100 bytes" in caplog.text


async def test_delivery_makes_room_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = MemoryLedger(max_body_bytes=100)
    await store(ledger, "a", b"x" * 80)
    ledger.delivered(key("a"))
    await store(ledger, "b", b"x" * 80)

    assert 2 == _warnings(caplog)


async def test_handler_of_the_warning_may_use_the_ledger() -> None:
    ledger = MemoryLedger(max_entries=1)
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ledger.delivered(key("a"))
            seen.append(repr(ledger))

    log, handler = logging.getLogger("modelmax_async"), Handler()
    log.addHandler(handler)
    try:
        await store(ledger, "a", b"x")
    finally:
        log.removeHandler(handler)

    assert ["<MemoryLedger: 1 jobs, 1 bytes of results>"] == seen


# --- threads ----------------------------------------------------------------------------------


@pytest.mark.untraced
async def test_memory_ledger_is_safe_for_loops_of_several_threads() -> None:
    ledger = MemoryLedger(max_body_bytes=1)
    claims = 8

    def arm(name: str, number: int) -> bool:
        async def both() -> bool:
            job = make_job("veo-3", name)
            await ledger.apply(key(name), Claim(job, "me", f"{number}", 10))
            done = await ledger.apply(key(name), Arm(f"{number}", 10))
            await deliver(ledger, f"{name} {number}")
            return done is not None and done.granted

        return asyncio.run(both())

    for round_ in range(20):
        armed = await asyncio.gather(
            *(asyncio.to_thread(arm, f"job {round_}", n) for n in range(claims))
        )

        assert 1 == armed.count(True)

    assert 160 == len(await listed(ledger, "delivered"))
    assert (20, 0, 0, 0) == sizes(ledger)


async def test_delivery_waits_for_a_step_in_another_thread() -> None:
    ledger = MemoryLedger()
    await store(ledger, "a")
    thread = threading.Thread(target=ledger.delivered, args=(key("a"),))

    with ledger._lock:
        thread.start()
        thread.join(0.05)
        waiting = thread.is_alive()
    await asyncio.to_thread(thread.join)

    assert waiting
    assert (1, 0, 1, len(BODY)) == sizes(ledger)


async def test_lists_hold_no_bodies() -> None:
    ledger = MemoryLedger()
    done = await store(ledger, "a")

    assert [attrs.evolve(done.entry, body=None)] == await ledger.entries(ORIGIN, {"stored"})
    await ledger.aclose()

    assert done.entry == await look(ledger, "a")


async def test_long_list_lets_the_event_loop_run() -> None:
    ledger = MemoryLedger()
    names = [f"job-{number}" for number in range(2000)]
    for name in names:
        await remember(ledger, name)
    listing = asyncio.create_task(ledger.entries(ORIGIN, {"known"}))
    turns = 0
    while not listing.done():
        await asyncio.sleep(0)
        turns += 1

    assert names == [entry.job.request_id for entry in listing.result()]
    assert turns >= 7


async def test_short_list_never_waits() -> None:
    ledger = MemoryLedger()
    await remember(ledger, "reef")
    listing = ledger.entries(ORIGIN, {"known"})

    with pytest.raises(StopIteration):
        listing.send(None)

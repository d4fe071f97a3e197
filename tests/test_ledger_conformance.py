"""`check_ledger` accepts the package's ledgers, and names the promise that another breaks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import attrs
import pytest

from modelmax_async import LedgerEntry, MemoryLedger, SQLiteLedger
from modelmax_async._api.paths import make_job
from modelmax_async._models import LedgerState
from modelmax_async._runtime import clock
from modelmax_async.ledger import (
    Bind,
    Forget,
    Key,
    Ledger,
    MarkSaved,
    Reserve,
    Step,
    SubmitKey,
    SubmitStep,
    Uncertain,
    memory,
)
from modelmax_async.ledger.attempts import is_held, observed
from modelmax_async.ledger.moves import (
    Arm,
    Claim,
    Fail,
    Look,
    Move,
    Release,
    Remember,
    Renew,
    Store,
)
from modelmax_async.ledger.transitions import job_step
from modelmax_async.testing import check_ledger

pytestmark = pytest.mark.anyio
Apply = Callable[[LedgerEntry | None, Move, float], Step | None]


async def test_memory_ledger_conforms() -> None:
    ledger = MemoryLedger()

    await check_ledger(ledger)

    assert re.fullmatch(r"<MemoryLedger: \d+ jobs, \d+ bytes of results>", repr(ledger))


async def test_memory_ledger_conforms_if_every_delivered_body_is_dropped() -> None:
    class Eager(MemoryLedger):
        def delivered(self, key: Key) -> None:
            super().delivered(key)
            with self._lock:
                self._drop_bodies(0)

    ledger = Eager()

    await check_ledger(ledger)

    assert await ledger.entries("https://check.invalid:443", {"delivered"})


async def test_sqlite_ledger_conforms_through_two_handles(tmp_path: Path) -> None:
    ledger, other = SQLiteLedger(tmp_path / "runs.db"), SQLiteLedger(tmp_path / "runs.db")

    await check_ledger(ledger, other)
    await ledger.aclose()
    await other.aclose()

    assert ["runs.db"] == sorted(path.name for path in tmp_path.iterdir())
    assert f"SQLiteLedger('{tmp_path}/runs.db')" == repr(ledger)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_lease_in_the_far_future_strands_no_job(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was a day ahead when the claim was made, and has been corrected since."""
    job = make_job("veo-3", "a")
    key = Key("https://check.invalid:443", "a")
    ledger: Ledger = MemoryLedger() if kind == "memory" else SQLiteLedger(tmp_path / "runs.db")
    now = clock.wall()
    monkeypatch.setattr(clock, "wall", lambda: now + 86_400)
    await ledger.apply(key, Claim(job, "gone", "a1", 10.0))
    armed = await ledger.apply(key, Arm("a1", 10.0))
    monkeypatch.setattr(clock, "wall", lambda: now)

    assert armed is not None
    listed = await ledger.entries(key.origin, {"uncertain"})
    until = armed.entry.lease_until
    taken = await ledger.apply(key, Claim(job, "next", "a2", 10.0, "a1", until))
    await ledger.aclose()

    assert [job] == [entry.job for entry in listed]
    assert taken is not None
    assert taken.granted


Add = Callable[[bytes | None], bytes]


class Replacing(MemoryLedger):
    """Replaces records of durations instead of adding to them."""

    async def add_durations(self, origin: str, model: str, version: int, add: Add) -> bytes:
        return await super().add_durations(origin, model, version, lambda _: add(None))


class Losing(MemoryLedger):
    """Reads, waits, and then writes."""

    async def add_durations(self, origin: str, model: str, version: int, add: Add) -> bytes:
        record = add((await self.load_durations(origin, version)).get(model))
        await asyncio.sleep(0)
        return await super().add_durations(origin, model, version, lambda _: record)


class OneForAll(MemoryLedger):
    """Mixes what it should keep apart."""

    def __init__(self, *mixed: str) -> None:
        super().__init__()
        self._mixed = mixed

    async def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        given = self._of(origin, "", version)
        return await super().load_durations(given[0], given[2])

    async def add_durations(self, origin: str, model: str, version: int, add: Add) -> bytes:
        return await super().add_durations(*self._of(origin, model, version), add)

    def _of(self, origin: str, model: str, version: int) -> tuple[str, str, int]:
        return (
            "" if "origin" in self._mixed else origin,
            "veo-3" if "model" in self._mixed else model,
            0 if "version" in self._mixed else version,
        )


@pytest.mark.parametrize(
    ("ledger", "promise"),
    [
        (Replacing(), "add_durations() adds to the record"),
        (Losing(), "loses nothing that is added at the same time"),
        (OneForAll("version"), "add_durations() adds to the record"),
        (OneForAll("model"), "add_durations() adds to the record"),
        (OneForAll("origin"), "returns the records of one origin only"),
    ],
)
async def test_suite_sees_a_ledger_that_mixes_up_durations(
    ledger: MemoryLedger, promise: str
) -> None:
    with pytest.raises(AssertionError, match=re.escape(promise)):
        await check_ledger(ledger)


async def test_ledger_may_do_without_durations() -> None:
    kept = MemoryLedger()

    class Plain:
        apply, entries, aclose, delivered = (
            kept.apply,
            kept.entries,
            kept.aclose,
            kept.delivered,
        )

    await check_ledger(Plain())


async def test_ledger_with_half_of_the_optional_part_is_refused() -> None:
    kept = MemoryLedger()

    class Half:
        apply, entries, aclose = kept.apply, kept.entries, kept.aclose
        delivered, load_durations = kept.delivered, kept.load_durations

    with pytest.raises(AssertionError, match="or neither"):
        await check_ledger(Half())


async def test_suite_sees_a_ledger_that_forgets_the_submit_time() -> None:
    class Forgetful(MemoryLedger):
        async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
            if isinstance(move, Remember):
                move = Remember(attrs.evolve(move.job, submitted_at=None))
            return await super().apply(key, move)

    with pytest.raises(AssertionError, match="a job is returned equal"):
        await check_ledger(Forgetful())


class Broken(MemoryLedger):
    """A ledger with one mistake: in its rules, in what it writes, or in its lists."""

    def __init__(
        self,
        *,
        rule: Apply = job_step,
        lost: dict[str, Any] | None = None,
        observe: bool = True,
        listed: Callable[[list[LedgerEntry]], list[LedgerEntry]] = lambda entries: entries,
    ) -> None:
        super().__init__()
        self._rule = rule
        self._lost = lost or {}
        self._observe = observe
        self._listed = listed

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory, "job_step", self._rule)
            done = await super().apply(key, move)
        if isinstance(key, Key) and done is not None and key in self._entries:
            entry = self._entries[key]
            lost = {k: v for k, v in self._lost.items() if getattr(entry, k) is not None}
            self._entries[key] = attrs.evolve(entry, **lost)
        return done

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        with pytest.MonkeyPatch.context() as patch:
            if not self._observe:
                patch.setattr(memory, "observed", lambda entry, now: entry)
            return self._listed(await super().entries(origin, states))


def _look_changes(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Look) and entry is not None:
        return Step(attrs.evolve(entry, lease_until=entry.lease_until + 1), granted=True)
    return job_step(entry, move, now)


def _any_lease(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Claim) and move.takeover is not None and entry is not None:
        move = attrs.evolve(move, takeover=entry.lease_until)
    return job_step(entry, move, now)


def _no_takeover(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Claim):
        move = attrs.evolve(move, takeover=None)
    return job_step(entry, move, now)


def _by_the_clock(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Claim) and entry is not None and entry.state == "claimed":
        entry = observed(entry, now)
    return job_step(entry, move, now)


def _armed_by_the_clock(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Claim) and entry is not None and entry.state == "armed":
        entry = observed(entry, now)
    return job_step(entry, move, now)


def _still_lease(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    done = job_step(entry, move, now)
    if isinstance(move, Renew) and done is not None and entry is not None:
        return attrs.evolve(done, entry=attrs.evolve(done.entry, lease_until=entry.lease_until))
    return done


def _any_decision(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Claim) and move.accept and entry is not None:
        move = attrs.evolve(move, accept=entry.attempt)
    return job_step(entry, move, now)


def _decision_holds_on(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Claim) and move.accept and entry is not None:
        same = move.accept == entry.decided
        move = attrs.evolve(move, accept=entry.attempt if same else move.accept)
    return job_step(entry, move, now)


def _races(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Claim) and move.accept and entry is not None and not move.takeover:
        move = attrs.evolve(move, takeover=entry.lease_until)
    return job_step(entry, move, now)


def _pays_over_all(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Claim) and move.accept and entry is not None and entry.body:
        entry = attrs.evolve(entry, body=None)
    return job_step(entry, move, now)


def _release_frees_all(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Release) and entry is not None and entry.state == "uncertain":
        return Step(attrs.evolve(entry, state="known"), granted=True)
    return job_step(entry, move, now)


def _release_frees_its_own(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Release) and entry is not None and entry.attempt == move.attempt:
        return _release_frees_all(entry, move, now)
    return job_step(entry, move, now)


def _no_late_proof(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Release) and entry is not None and not is_held(entry):
        return Step(entry, granted=False)
    return job_step(entry, move, now)


def _fails(state: str) -> Apply:
    def rule(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
        if isinstance(move, Fail) and entry is not None and entry.state == state:
            return Step(attrs.evolve(entry, state="failed", error=move.error), granted=True)
        return job_step(entry, move, now)

    return rule


def _last_answer(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Store) and entry is not None:
        entry = attrs.evolve(entry, body=None, state="known")
    return job_step(entry, move, now)


def _first_answer(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Store) and entry is not None and entry.body is not None:
        return Step(entry, granted=False)
    return job_step(entry, move, now)


def _late_answer(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Store) and entry is not None and is_held(entry):
        entry = attrs.evolve(entry, state="known")
    return job_step(entry, move, now)


def _refuses_late_answer(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if isinstance(move, Store) and entry is not None and entry.attempt != move.attempt:
        return Step(entry, granted=False)
    return job_step(entry, move, now)


def _grants_all(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    done = job_step(entry, move, now)
    return None if done is None else attrs.evolve(done, granted=True)


def _knows_all(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    if entry is None and not isinstance(move, Remember | Claim | Store):
        return Step(
            LedgerEntry(job=make_job("m", "x"), state="known", since=now), granted=False
        )
    return job_step(entry, move, now)


@pytest.mark.parametrize(
    ("mistake", "promise"),
    [
        ({"rule": _look_changes}, "a look changes nothing"),
        ({"rule": _any_lease}, "a takeover names the lease that it has watched"),
        ({"rule": _no_takeover}, "a claim that is not renewed can be taken over"),
        ({"rule": _by_the_clock}, "the wall clock alone ends no claim"),
        ({"rule": _armed_by_the_clock}, "the wall clock alone makes no call uncertain"),
        ({"rule": _still_lease}, "every renewal makes the lease end later"),
        ({"rule": _any_decision}, "a decision names its attempt"),
        ({"rule": _decision_holds_on}, "a decision is void once the job has changed"),
        ({"rule": _races}, "a call in flight is never raced"),
        ({"rule": _pays_over_all}, "a readable result is never paid for again"),
        ({"rule": _release_frees_all}, "a proof counts once only"),
        ({"rule": _release_frees_its_own}, "a decision voids proofs of earlier attempts"),
        ({"rule": _no_late_proof}, "a proof that nothing was billed counts even"),
        ({"rule": _fails("armed")}, "FAILED from a status call does not change a job"),
        ({"rule": _fails("uncertain")}, "a proof counts once only"),
        ({"rule": _last_answer}, "a readable result replaces an unreadable one"),
        ({"rule": _first_answer}, "a readable result replaces an unreadable one"),
        ({"rule": _late_answer}, "an unreadable late result displaces no call"),
        ({"rule": _refuses_late_answer}, "a readable result replaces an unreadable one"),
        ({"rule": _grants_all}, "a job is remembered once, for every handle"),
        ({"rule": _knows_all}, "an unknown job has no entry"),
        ({"lost": {"acknowledged": True}}, "a job that the server did not acknowledge"),
        ({"lost": {"lease": 0.0}}, "every field is returned equal"),
        ({"lost": {"owner": None}}, "every field is returned equal"),
        ({"lost": {"resting": "known"}}, "an unbilled call leaves"),
        ({"lost": {"decided": None}}, "an unbilled call leaves"),
        ({"lost": {"phase": None}}, "an uncertain job and its cause come back equal"),
        ({"lost": {"body": b""}}, "the body is returned byte for byte"),
        ({"lost": {"cause": "?"}}, "an uncertain job and its cause come back equal"),
        ({"lost": {"error": ""}}, "a failed entry has the server's text for every handle"),
        ({"lost": {"attempt": "?"}}, "released"),
        ({"lost": {"lease_until": 0.0}}, "every field is returned equal"),
        ({"lost": {"job": make_job("m", "x")}}, "a job is remembered once"),
        ({"observe": False}, "entries() lists an armed job as uncertain after its lease"),
        ({"listed": lambda found: found[::-1]}, "entries() lists the oldest job first"),
        (
            {"listed": lambda found: [attrs.evolve(entry, body=b"") for entry in found]},
            "entries() omits the bodies",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_suite_names_the_promise_that_is_broken(
    mistake: dict[str, Any], promise: str
) -> None:
    with pytest.raises(
        AssertionError, match=f"a ledger breaks a promise: .*{re.escape(promise)}"
    ):
        await check_ledger(Broken(**mistake))


@pytest.mark.parametrize(
    "forgets",
    [Remember, Arm, Claim, Store, Fail, Renew, Release, Uncertain, Forget, MarkSaved],
)
async def test_suite_sees_a_ledger_that_forgets_a_move(forgets: type[Move]) -> None:
    class Forgetful(MemoryLedger):
        async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
            kept = dict(self._entries)
            done = await super().apply(key, move)
            if isinstance(move, forgets):
                self._entries = kept
            return done

    with pytest.raises(AssertionError, match="breaks a promise"):
        await check_ledger(Forgetful())


async def test_suite_sees_a_ledger_that_forgets_what_was_delivered() -> None:
    class Forgetful(MemoryLedger):
        def delivered(self, key: Key) -> None:
            self._entries.pop(key, None)

    with pytest.raises(AssertionError, match="delivered is not fetched again"):
        await check_ledger(Forgetful())


@pytest.mark.parametrize(
    ("states", "promise"),
    [
        ({"known", "stored"}, "entries() omits states that were not requested"),
        ({"stored"}, "entries() lists the unfinished jobs"),
        ({"known"}, "entries() lists stored jobs on request"),
    ],
)
async def test_suite_sees_a_ledger_that_lists_the_wrong_states(
    states: set[LedgerState], promise: str
) -> None:
    class Wrong(MemoryLedger):
        lists = 0

        async def entries(
            self, origin: str, wanted: Collection[LedgerState]
        ) -> list[LedgerEntry]:
            self.lists += 1  # the first two are about a claim and a lease
            return await super().entries(origin, wanted if self.lists < 3 else states)

    with pytest.raises(AssertionError, match=re.escape(promise)):
        await check_ledger(Wrong())


async def test_suite_sees_a_ledger_that_mixes_origins() -> None:
    class Mixed(MemoryLedger):
        async def entries(
            self, origin: str, states: Collection[LedgerState]
        ) -> list[LedgerEntry]:
            return await super().entries("https://check.invalid:443", states)

    with pytest.raises(AssertionError, match="a list has the jobs of one origin only"):
        await check_ledger(Mixed())


async def test_suite_sees_a_ledger_whose_handles_do_not_share() -> None:
    with pytest.raises(AssertionError, match="breaks a promise"):
        await check_ledger(MemoryLedger(), MemoryLedger())


@pytest.mark.parametrize("forgets", [Reserve, Bind, Renew, Release, Uncertain, Forget])
async def test_suite_sees_a_ledger_that_forgets_a_move_of_a_key(forgets: type[Move]) -> None:
    class Forgetful(MemoryLedger):
        async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
            kept = dict(self._keys._kept)
            done = await super().apply(key, move)
            if isinstance(move, forgets) and isinstance(key, SubmitKey):
                self._keys._kept = kept
            return done

    with pytest.raises(AssertionError, match="breaks a promise"):
        await check_ledger(Forgetful())


async def test_suite_sees_a_ledger_that_keeps_no_keys() -> None:
    class Older(MemoryLedger):
        async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
            return None if isinstance(key, SubmitKey) else await super().apply(key, move)

    with pytest.raises(AssertionError, match="of many reservations of a key"):
        await check_ledger(Older())


async def test_suite_sees_a_ledger_that_takes_a_key_for_a_job() -> None:
    class Mixing(MemoryLedger):
        async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
            if isinstance(key, SubmitKey) and isinstance(move, Bind):
                return await super().apply(Key(key.origin, key.key), Remember(move.job))
            return await super().apply(key, move)

    with pytest.raises(AssertionError, match=r"apply\(\) takes a SubmitKey"):
        await check_ledger(Mixing())


async def test_suite_sees_a_ledger_that_lists_no_submitted_jobs() -> None:
    class Silent(MemoryLedger):
        async def entries(
            self, origin: str, states: Collection[LedgerState]
        ) -> list[LedgerEntry]:
            listed = await super().entries(origin, states)
            return [e for e in listed if Key(origin, e.job.request_id) in self._entries]

    with pytest.raises(AssertionError, match="lists a submitted job without an entry"):
        await check_ledger(Silent())


async def test_suite_sees_a_ledger_that_lists_a_submitted_job_twice() -> None:
    class Double(MemoryLedger):
        async def entries(
            self, origin: str, states: Collection[LedgerState]
        ) -> list[LedgerEntry]:
            mine = [e for key, e in self._entries.items() if key.origin == origin]
            return [*await super().entries(origin, states), *mine]

    with pytest.raises(AssertionError, match="breaks a promise"):
        await check_ledger(Double())


async def test_suite_sees_a_ledger_that_loses_when_a_result_was_saved() -> None:
    class Forgetful(MemoryLedger):
        async def entries(
            self, origin: str, states: Collection[LedgerState]
        ) -> list[LedgerEntry]:
            listed = await super().entries(origin, states)
            return [attrs.evolve(entry, saved_at=None) for entry in listed]

    with pytest.raises(AssertionError, match="tells when a result was saved"):
        await check_ledger(Forgetful())

"""Worlds from a seed: every rule holds in each, and the same seed is the same world."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from simulation import simulate
from simulation.defects import DEFECTS
from simulation.handles import postgres_store
from simulation.hunting import hunt
from simulation.judge import Judge
from simulation.ledgers import FlakyLedger
from simulation.loop import Deadlock, SimulationLoop
from simulation.patches import deterministic
from simulation.postgres_handle import PostgresHandle
from simulation.postgres_server import PostgresStore
from simulation.processes import Clocks, Process
from simulation.scenario import THEMES
from simulation.seeds import SEEDS_THAT_FOUND_SOMETHING
from simulation.stores import SIMPLE
from simulation.world import World

from modelmax_async import Job
from modelmax_async._runtime import clock
from modelmax_async.ledger import Key, Remember

#: Coverage makes them several times slower, and finds nothing that others do not.
pytestmark = pytest.mark.untraced
_CHUNK = 20


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> None:
    """Let SQLite block: there is no thread here, and no disk."""


@pytest.fixture
def world() -> Iterator[World]:
    loop = SimulationLoop()
    made = World(loop, 0)
    with deterministic(loop, made.stream("package")):
        yield made
    loop.close()


def run(world: World, main: Coroutine[Any, Any, None]) -> None:
    world.loop.run_until_complete(main)


def assert_every_rule_held(seed: int) -> None:
    verdict = simulate(seed)

    assert not verdict.violations, verdict.report()


@pytest.mark.parametrize("first", range(0, 60, _CHUNK))
def test_every_rule_holds_in_every_world(first: int) -> None:
    for seed in range(first, first + _CHUNK):
        assert_every_rule_held(seed)


@pytest.mark.parametrize("first", range(0, 20, _CHUNK // 4))
def test_every_rule_holds_with_keys_too(first: int) -> None:
    """Every process submits the same few requests with the same keys, in batches too."""
    for seed in range(first, first + _CHUNK // 4):
        verdict = simulate(seed, frozenset({"keys", *THEMES[seed % len(THEMES)]}))

        assert not verdict.violations, verdict.report()


#: What befalls a PostgreSQL ledger, and processes in the middle of its transactions.
BREAKS = frozenset(
    {"slow ledger", "failing ledger", "hanging ledger", "pauses", "crashes", "keys"}
)


@pytest.mark.parametrize("first", range(0, 6, 2))
def test_every_rule_holds_over_a_postgresql_server_that_breaks(first: int) -> None:
    for seed in range(first, first + 2):
        verdict = simulate(seed, BREAKS, postgres_store)

        assert not verdict.violations, verdict.report()


@pytest.mark.parametrize("seed", SEEDS_THAT_FOUND_SOMETHING)
def test_what_a_seed_found_stays_mended(seed: int) -> None:
    assert_every_rule_held(seed)


@pytest.mark.parametrize("first", [1000, 1010])
def test_without_faults_each_job_is_billed_once(first: int) -> None:
    for seed in range(first, first + 10):
        verdict = simulate(seed, frozenset())

        assert not verdict.violations, verdict.report()
        assert not verdict.injected


_PRINT_LOGS = """
import hashlib
from simulation import simulate
for seed in range(0, 160, 10):
    print(hashlib.sha256("\\n".join(simulate(seed).log).encode()).hexdigest())
"""


def _digests(hash_seed: str) -> list[str]:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    told = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    command = [sys.executable, "-c", _PRINT_LOGS]
    done = subprocess.run(command, env=told, check=True, capture_output=True, text=True)  # noqa: S603 - our own code
    return done.stdout.split()


def test_same_seed_is_same_world_byte_for_byte_in_other_processes() -> None:
    mine = [
        hashlib.sha256("\n".join(simulate(seed).log).encode()).hexdigest()
        for seed in range(0, 160, 10)
    ]

    assert mine == _digests("1")
    assert mine == _digests("4242")


def test_worlds_differ() -> None:
    assert len({simulate(seed).log for seed in range(5)}) == 5


#: Those that are found soonest where nothing but the network fails.
PLAIN = ("a broken exchange", "a gateway's page")


@pytest.mark.parametrize("name", [name for name in DEFECTS if name.startswith(PLAIN)])
def test_a_planted_second_charge_is_found(name: str) -> None:
    features = frozenset({"drops", "gateways"})
    with DEFECTS[name]():
        rules = {v.rule for seed in range(25) for v in simulate(seed, features).violations}

    assert "billed without a decision" in rules


#: Those that take many seeds: `nox -s chaos` looks for them.
RARE = ("1:", "2:", "3:", "7:", "16:", "17:", "PostgreSQL: a lost connection")
OTHERS = [name for name in DEFECTS if not name.startswith(("none", *PLAIN, *RARE))]


@pytest.mark.timeout(120)  # the rarest takes 60 seeds
@pytest.mark.parametrize("name", OTHERS)
def test_defect_that_is_put_back_is_found(name: str) -> None:
    assert hunt(name, limit=150).found


def test_judge_finds_a_second_bill(world: World) -> None:
    judge = Judge(world)

    judge.billed("reef")
    assert judge.violations == []
    judge.billed("reef")
    judge.billed("kelp")
    process = Process(world.loop, "p0", Clocks())
    with judge.deciding(process, "kelp"):
        judge.billed("kelp")

    assert ["billed without a decision"] == [v.rule for v in judge.violations]


async def _tick(ticks: list[float], loop: SimulationLoop) -> None:
    try:
        while True:
            ticks.append(loop.time())
            await asyncio.sleep(1)
    finally:
        ticks.append(-1)


def test_paused_process_does_nothing_until_it_is_resumed(world: World) -> None:
    process, ticks = Process(world.loop, "p0", Clocks()), list[float]()

    async def main() -> None:
        process.spawn(_tick(ticks, world.loop), "ticking")
        await asyncio.sleep(1.5)
        process.pause()
        await asyncio.sleep(10)
        assert [0, 1] == ticks
        process.resume()
        await asyncio.sleep(2.2)
        process.crash()

    run(world, main())
    assert [0, 1, 11.5, 12.5, 13.5] == ticks


def test_what_came_due_in_a_pause_happens_in_its_order_unless_cancelled(world: World) -> None:
    process, seen = Process(world.loop, "p0", Clocks()), list[str]()

    async def main() -> None:
        def later(seconds: float, what: str) -> asyncio.TimerHandle:
            return world.loop.call_later(seconds, seen.append, what, context=process.context)

        later(3, "third")
        later(2, "second")
        dropped = later(2.5, "never")
        later(1, "first")
        process.pause()
        await asyncio.sleep(5)
        dropped.cancel()
        process.resume()
        await asyncio.sleep(0)

    run(world, main())
    assert ["first", "second", "third"] == seen


def test_crashed_process_is_cut_at_that_very_await(world: World) -> None:
    process, ticks = Process(world.loop, "p0", Clocks()), list[float]()

    async def main() -> None:
        process.spawn(_tick(ticks, world.loop), "ticking")
        await asyncio.sleep(1.5)
        process.crash()
        process.resume()
        await asyncio.sleep(60)

    run(world, main())
    assert [0, 1] == ticks, "not even its finally blocks run"


def test_world_in_which_nothing_is_due_says_so(world: World) -> None:
    async def main() -> None:
        await world.loop.create_future()

    with pytest.raises(Deadlock):
        run(world, main())


def test_each_process_has_clocks_of_its_own(world: World) -> None:
    ahead = Process(world.loop, "p0", Clocks(offset=100.0))
    right = Process(world.loop, "p1", Clocks(boot=5.0))

    async def clocks() -> tuple[float, float]:
        return clock.wall(), clock.boottime()

    async def main() -> None:
        await asyncio.sleep(7)
        there, here = ahead.spawn(clocks(), "a"), right.spawn(clocks(), "b")
        await asyncio.wait([there, here])
        assert there.result()[0] == here.result()[0] + 100
        assert here.result()[1] == 12

    run(world, main())


@pytest.mark.parametrize("name", sorted(SIMPLE))
@pytest.mark.parametrize("local", [True, False])
def test_move_of_a_paused_process_waits_only_where_its_own_thread_makes_it(
    world: World, name: str, *, local: bool
) -> None:
    process, store = Process(world.loop, "p0", Clocks()), SIMPLE[name]()
    ledger = FlakyLedger(world, process, store, Judge(world), local=local)
    key = Key("http://127.0.0.1:80", "reef")

    async def main() -> None:
        process.spawn(ledger.apply(key, Remember(Job("veo-3", "reef"))), "remembers")
        await asyncio.sleep(0)
        process.pause()
        await asyncio.sleep(5)
        assert local == (store.peek(key) is None)
        process.resume()
        await asyncio.sleep(5)
        assert store.peek(key) is not None

    run(world, main())
    store.close()


def test_transaction_of_a_paused_process_is_ended_by_the_server(world: World) -> None:
    server, judge = PostgresStore(), Judge(world)
    paused, other = (Process(world.loop, name, Clocks()) for name in ("p0", "p1"))
    key = Key("http://127.0.0.1:80", "reef")
    remember = Remember(Job("veo-3", "reef"))

    async def main() -> None:
        first = PostgresHandle(world, paused, server, judge)
        paused.spawn(first.apply(key, remember), "remembers")
        while not any(session.writes for session in server.sessions):
            await asyncio.sleep(0.0001)
        paused.pause()
        second = PostgresHandle(world, other, server, judge)
        begun = world.loop.time()
        await other.spawn(second.apply(key, remember), "remembers too")
        assert 9 < world.loop.time() - begun < 10.5
        paused.resume()
        await asyncio.sleep(5)
        assert not any(session.open for session in server.sessions)

    run(world, main())
    assert [] == judge.violations


@pytest.mark.parametrize("kept", [True, False])
def test_commit_that_a_restart_cuts_off_is_made_once(world: World, *, kept: bool) -> None:
    server, judge = PostgresStore(), Judge(world)
    process = Process(world.loop, "p0", Clocks())
    key = Key("http://127.0.0.1:80", "reef")

    async def main() -> None:
        handle = PostgresHandle(world, process, server, judge)
        move = handle.apply(key, Remember(Job("veo-3", "reef")))
        asked = process.spawn(move, "remembers")
        while not any(session.commit for session in server.sessions):
            await asyncio.sleep(1e-5)
        server.restart(0.0, kept=lambda: kept)
        assert kept == (server.peek(key) is not None)
        answer = await asked
        assert answer is not None
        assert answer.entry == server.peek(key)

    run(world, main())
    assert [] == judge.violations

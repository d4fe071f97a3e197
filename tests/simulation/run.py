"""From a seed to a verdict."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from simulation import stores
from simulation.evidence import Violation
from simulation.handles import Draw, drawn_store
from simulation.loop import Deadlock, SimulationLoop
from simulation.patches import deterministic
from simulation.scenario import Scenario
from simulation.world import World


@attrs.frozen
class Verdict:
    """What one run came to."""

    seed: int
    features: frozenset[str]
    violations: tuple[Violation, ...]
    injected: Counter[str]
    log: tuple[str, ...] = attrs.field(repr=False)
    bills: int = 0
    jobs: int = 0

    def report(self, lines: int = 30) -> str:
        """Return what was broken, how to replay it, and the log up to the first violation."""
        at = next((i for i, line in enumerate(self.log) if "VIOLATION" in line), len(self.log))
        again = f"python -m benchmarks chaos --seed {self.seed} --log"
        return "\n".join(
            [
                f"seed {self.seed} broke {len(self.violations)} rules; replay it with {again}",
                *(f"  {violation}" for violation in self.violations[:10]),
                *self.log[max(0, at - lines) : at + 1],
            ]
        )


def simulate(
    seed: int, features: frozenset[str] | None = None, draw: Draw = drawn_store
) -> Verdict:
    """Run the world of a seed to its end.

    Args:
        seed: decides everything.
        features: what may go wrong, instead of what the seed would draw.
        draw: draws the kind of store.
    """
    stores.prepare()  # its file has a random id, which must not be drawn from a world's chance
    with _undisturbed():
        return _run(seed, features, draw)  # its world is gone with its frame


def _run(seed: int, features: frozenset[str] | None, draw: Draw) -> Verdict:
    loop = SimulationLoop()
    world = World(loop, seed)
    scenario = Scenario.__new__(Scenario)
    loop.set_exception_handler(lambda _, context: _failed(scenario, context))
    with deterministic(loop, world.stream("package")):
        try:
            loop.run_until_complete(_main(scenario, world, features, draw))
        except Deadlock:
            scenario.judge.accuse("the world stands still", "world", "nothing is due any more")
        finally:
            _end(loop, scenario)
    judge = scenario.judge
    return Verdict(
        seed=world.seed,
        features=world.features,
        violations=tuple(judge.violations),
        injected=world.injected,
        log=tuple(world.lines),
        bills=judge.bills.total(),
        jobs=len(scenario.emulator.jobs),
    )


async def _main(
    scenario: Scenario, world: World, features: frozenset[str] | None, draw: Draw
) -> None:
    scenario.__init__(world, features, draw)  # type: ignore[misc]  # on the loop, whose time jobs start at
    await scenario.run()


def _failed(scenario: Scenario, context: dict[str, Any]) -> None:
    """Take note of what asyncio could tell nobody else."""
    message = str(context.get("message"))
    if "was never retrieved" in message or "was destroyed" in message:
        return
    what = repr(context.get("exception", message))  # the message itself shows addresses
    scenario.judge.accuse("an error in a callback", "loop", what)


def _end(loop: SimulationLoop, scenario: Scenario) -> None:
    """Let go of the dead: what their coroutines do now happens to nobody."""
    scenario.store.close()
    loop.close()
    loop.set_exception_handler(lambda *_: None)
    for process in scenario.processes:
        process.dropped.clear()
        process.held.clear()
    loop.tasks.clear()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Collect no garbage in the middle of a run, and hear of none of it afterwards."""
    hook, enabled = sys.unraisablehook, gc.isenabled()
    gc.disable()
    gc.freeze()  # so that only what this run made is looked through
    sys.unraisablehook = lambda _: None
    logger = logging.getLogger("modelmax_async")
    silent, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what the dead were about to await
            gc.collect()
        gc.unfreeze()
        logger.disabled = silent
        sys.unraisablehook = hook
        if enabled:
            gc.enable()

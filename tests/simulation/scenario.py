"""One run: a world drawn from a seed, a storm, a calm, and the verdict."""

from __future__ import annotations

from random import Random

from modelmax_async import AsyncQueueClient, RetryPolicy
from modelmax_async.emulator import Emulator, JobScript
from simulation.calm import Calm
from simulation.chaos import BLOWS, Storm
from simulation.faults import FAULTS
from simulation.handles import STORES, Draw, drawn_store, open_ledger
from simulation.judge import Judge
from simulation.network import Kind, Network, client_of
from simulation.processes import Clocks, Process
from simulation.users import User
from simulation.world import World

#: Everything that a run may have; each run has some of it.
FEATURES = (
    *FAULTS,
    *BLOWS,
    "skewed clocks",
    "slow ledger",
    "failing ledger",
    "hanging ledger",
    "decisions",
    "mistakes",
    "refetches",
)


class Scenario:
    """Everything that one run is made of."""

    def __init__(
        self, world: World, features: frozenset[str] | None, draw: Draw = drawn_store
    ) -> None:
        self.world = world
        chance = world.stream("scenario")
        drawn = _features(chance)
        world.features = drawn if features is None else features
        self.judge = Judge(world)
        self.emulator = Emulator(seed=world.seed, record=False)
        self.network = Network(world, self.emulator, self.judge)
        self.store_name = draw(world, chance)
        self.store = STORES[self.store_name]()
        self.processes: list[Process] = []
        self.jobs = [
            self.emulator.add_job(script=_script(chance)) for _ in range(chance.randint(1, 4))
        ]
        self.emulator.script(*(_script(chance) for _ in range(20)))
        self.seconds = chance.choice([30.0, 60.0, 90.0])
        self._count = 0
        self._bases = [_clocks(chance, world.features) for _ in range(chance.randint(1, 3))]
        world.log(
            None, f"{self.store_name}: {', '.join(sorted(world.features)) or 'no faults'}"
        )

    def start(self, before: Process | None = None) -> None:
        """Start a process, or the next one on the same machine."""
        name = f"p{self._count}"
        self._count += 1
        clocks = self._bases.pop() if before is None else before.clocks
        process = Process(self.world.loop, name, clocks)
        chance = self.world.stream(f"process {name}")
        features = self.world.features
        process.refetches = "refetches" in features and chance.random() < 0.4
        process.patience = chance.choice([2.0, 5.0, 10.0])
        self.processes.append(process)
        self.world.log(process, "STARTED, refetching" if process.refetches else "STARTED")
        process.context.copy().run(self._open, process, chance)
        self.join(process)

    def join(self, process: Process) -> None:
        """Let users begin to use a process."""
        chance = self.world.stream(f"users {process.name} {len(process.users)}")
        for _ in range(chance.randint(1, 4)):
            mine = f"user {len(process.users)}"
            user = User(
                self.world, self.judge, process, Random(chance.random()), [*self.jobs], mine
            )
            user.begin(self.seconds)
            process.users.append(user)

    def _open(self, process: Process, chance: Random) -> None:
        kind = Kind.drawn(chance, foreign="foreign" in self.world.features)
        ledger = open_ledger(self.world, process, self.store_name, self.store, self.judge)
        process.client = AsyncQueueClient(
            api_key="sk-emulator",
            base_url="http://127.0.0.1",
            model="veo-3",
            ledger=ledger,
            on_uncertain="refetch" if process.refetches else "raise",
            max_in_flight=chance.choice([1, 2, 4]),
            timeout=process.patience,
            retry=RetryPolicy(give_up_after=600.0),
            hooks=[lambda event: self.judge.event(process, event)],
            **client_of(self.network, process, kind),
        )

    async def run(self) -> None:
        """Storm, calm, end."""
        for _ in range(len(self._bases)):
            self.start()
        await Storm(self).blow(self.seconds)
        for process in [p for p in self.processes if not p.alive]:
            if not any(p.clocks is process.clocks and p.alive for p in self.processes):
                self.start(process)
        await Calm(self).run()


#: What is worst together; most runs have one of these, and other things besides.
THEMES = (
    {"pauses", "garbling", "decisions", "delays"},
    {"pauses", "garbling", "decisions", "delays", "drops"},
    {"hanging ledger", "garbling", "decisions", "delays"},
    {"pauses", "decisions", "delays"},
    {"slow closes", "deploys"},
    {"clock jumps", "delays", "decisions"},
    {"clock jumps", "delays", "decisions", "garbling"},
    {"cancellations", "decisions", "drops", "slow ledger"},
    {"skewed clocks", "crashes", "clock jumps"},
    {"lies", "drops", "delays"},
    {"deploys", "cancellations", "delays"},
    {"failing ledger", "hanging ledger", "deploys"},
    {"interrupts", "delays"},
    {"mixups"},
    {"mistakes"},
    {"foreign", "drops"},
    {"refetches", "drops", "crashes"},
)


def _features(chance: Random) -> frozenset[str]:
    """Draw what goes wrong in a run: in some nothing does, in most a few things together."""
    if chance.random() < 0.08:
        return frozenset()
    share = chance.choice([0.0, 0.05, 0.15, 0.3])
    theme = chance.choice([*THEMES, set()])
    return frozenset(name for name in FEATURES if name in theme or chance.random() < share)


def _clocks(chance: Random, features: frozenset[str]) -> Clocks:
    clocks = Clocks(boot=chance.uniform(10.0, 1e6))
    if "skewed clocks" in features:
        clocks.offset = chance.choice([0.0, chance.uniform(-20, 20), chance.uniform(-9e4, 9e4)])
        clocks.rate = chance.choice([1.0, 1.0001, 0.97])
    return clocks


def _script(chance: Random) -> JobScript:
    return JobScript(
        queue_seconds=chance.choice([0.0, 2.0]),
        run_seconds=chance.choice([0.0, 1.0, 5.0, chance.uniform(0, 40)]),
        outcome="FAILED" if chance.random() < 0.1 else "COMPLETED",
        lag_polls=chance.choice([0, 0, 0, 0, 2]),
    )

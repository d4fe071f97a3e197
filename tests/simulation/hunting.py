"""How many seeds the simulation needs for a defect that is put back."""

from __future__ import annotations

import attrs

from simulation.defects import DEFECTS
from simulation.handles import postgres_store, simple_store
from simulation.run import Verdict, simulate

#: What must come together for a rare defect: in worlds where all else may fail too, it takes
#: thousands of seeds.
TOGETHER = {
    "7: a late unreadable answer displaces a good one": frozenset(
        {"decisions", "garbling", "pauses", "refetches"}
    ),
    "2: a refused decision is taken again about whatever the ledger holds by then": frozenset(
        {"cancellations", "decisions", "drops", "slow ledger"}
    ),
    "PostgreSQL: a lost race to add a row is taken for won": frozenset({"slow ledger", "keys"}),
}
#: What the defects of a PostgreSQL ledger are hunted with.
_BREAKS = frozenset({"slow ledger", "failing ledger", "hanging ledger"})


@attrs.frozen
class Found:
    """How many seeds it took to find a defect, and by which rules."""

    name: str
    seeds: int
    rules: tuple[str, ...]

    @property
    def found(self) -> bool:
        return bool(self.rules)


def hunt(name: str, limit: int, known: frozenset[str] = frozenset()) -> Found:
    """Run seeds under a defect until a rule is broken, ``known`` ones apart."""
    features, draw = TOGETHER.get(name), simple_store
    if name.startswith("PostgreSQL"):
        features, draw = TOGETHER.get(name, _BREAKS), postgres_store
    for seed in range(limit):
        with DEFECTS[name]():
            verdict: Verdict = simulate(seed, features, draw)
        rules = dict.fromkeys(v.rule for v in verdict.violations if v.rule not in known)
        if rules:
            return Found(name, seed + 1, tuple(rules))
    return Found(name, limit, ())

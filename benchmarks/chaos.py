"""Simulations from seeds: which faults were injected, how often, and which rules held.

python -m benchmarks chaos --seeds 0..2000 --jobs 2
python -m benchmarks chaos --minutes 30
python -m benchmarks chaos --seed 17 --log      # replays one seed exactly
python -m benchmarks chaos --defects            # counts the seeds until each defect is found
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from benchmarks._report import Check, Report, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # contains the simulation

from simulation import Verdict, simulate
from simulation.defects import DEFECTS
from simulation.hunting import hunt
from simulation.rules import RULES

#: Seeds to try for each defect.
_LIMIT = 5_000
_BATCH = 100


@attrs.define
class Tally:
    """The totals of all runs."""

    seeds: int = 0
    jobs: int = 0
    bills: int = 0
    seconds: float = 0.0
    injected: Counter[str] = attrs.field(factory=Counter)
    broken: dict[str, list[int]] = attrs.field(factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Count one run, and print it with its seed if it broke a rule."""
        self.seeds += 1
        self.jobs += verdict.jobs
        self.bills += verdict.bills
        self.injected += verdict.injected
        for rule in dict.fromkeys(violation.rule for violation in verdict.violations):
            self.broken.setdefault(rule, []).append(verdict.seed)
        if verdict.violations:
            print(verdict.report(), flush=True)

    def report(self) -> Report:
        """Return tables of the injected faults and of the seeds that broke each rule."""
        faults = [(name, f"{count:,}") for name, count in sorted(self.injected.items())]
        rules = [(rule, _seeds(self.broken.get(rule, [])), RULES[rule]) for rule in RULES]
        counted = f"{self.seeds:,} seeds, {self.jobs:,} jobs, {self.bills:,} bills"
        text = "\n\n".join(
            [
                f"{counted}, {self.seconds:.0f} s",
                table(("injected", "times"), faults),
                table(("rule", "held", "meaning"), rules),
            ]
        )
        checks = [Check("broken rules", len(self.broken), "<=", 0)]
        return Report("chaos", [attrs.asdict(self)], text, checks)


def _seeds(broken: list[int]) -> str:
    return f"NO: {len(broken)} seeds, first {broken[0]}" if broken else "yes"


def _brief(seed: int) -> Verdict:
    """Run one seed, and drop its log unless a rule was broken."""
    verdict = simulate(seed)
    return verdict if verdict.violations else attrs.evolve(verdict, log=())


def _run(batches: Iterable[range], jobs: int) -> Iterator[Verdict]:
    if jobs == 1:
        for batch in batches:
            yield from map(_brief, batch)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for batch in batches:
            yield from pool.imap(_brief, batch, chunksize=8)


def _until(seconds: float, first: int) -> Iterator[range]:
    """Yield batches until the time is up, since a pool would consume single seeds for ever."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        yield range(first, first + _BATCH)
        first += _BATCH


def tally(batches: Iterable[range], jobs: int = 1) -> Tally:
    """Run all seeds and return the totals."""
    begun, total = time.perf_counter(), Tally()
    for verdict in _run(batches, jobs):
        total.add(verdict)
    total.seconds = time.perf_counter() - begun
    return total


def run(*, quick: bool = False) -> Report:
    """Run the seeds that must pass before a release."""
    return tally([range(200 if quick else 5_000)], jobs=2).report()


def _show(seed: int, *, log: bool) -> int:
    verdict = simulate(seed)
    if log:
        print("\n".join(verdict.log))
    print(verdict.report() if verdict.violations else f"seed {seed}: every rule held")
    return 1 if verdict.violations else 0


def _hunt(limit: int) -> int:
    """Print how many seeds it takes to find each defect.

    Rules that are also broken without a defect do not count.
    """
    known: frozenset[str] = frozenset()
    found = []
    for name in DEFECTS:
        if name.startswith("none"):
            own = {v.rule for seed in range(min(limit, 300)) for v in simulate(seed).violations}
            known = frozenset(own)
            print(f"rules broken without a defect: {', '.join(sorted(own)) or 'none'}")
            continue
        found.append(hunt(name, limit, known))
        print(f"{name}: {found[-1].seeds} seeds, {', '.join(found[-1].rules)}", flush=True)
    rows = [
        (f.name, str(f.seeds) if f.found else f"> {f.seeds}", ", ".join(f.rules)) for f in found
    ]
    print(table(("defect", "seeds until it is found", "broken rules"), rows))
    return 0 if all(f.found for f in found) else 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line, and return 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="benchmarks chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed")
    parser.add_argument("--log", action="store_true", help="print the whole log of --seed")
    parser.add_argument("--seeds", default="0..1000", help="first..last, without the last")
    parser.add_argument("--minutes", type=float, help="run for this many minutes")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument(
        "--defects",
        action="store_true",
        help="try to find each known defect",
    )
    parser.add_argument("--limit", type=int, default=_LIMIT, help="seeds for each defect")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return _show(given.seed, log=given.log)
    if given.defects:
        return _hunt(given.limit)
    first, _, last = given.seeds.partition("..")
    batches: Iterable[range] = [range(int(first), int(last or int(first) + 1))]
    if given.minutes is not None:
        batches = _until(given.minutes * 60, int(first))
    report = tally(batches, given.jobs).report()
    report.show()
    return 0 if all(check.holds for check in report.checks) else 1


if __name__ == "__main__":
    sys.exit(main())

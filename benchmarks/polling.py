"""Polling schedules: polls per job and lag of real clients, against the best possible schedule.

Durations are scaled in time: the contenders run on an event loop whose clock is fast, so each
keeps its own intervals. The cost of a job is ``0.2 * polls + lag``: one poll is worth 0.2
seconds of lag. The optimum is computed from the true distribution, by dynamic programming, and
applied to the very durations that the contender waited for: the best of all schedules, and the
best of those whose intervals are no longer than 15 s, as those of our default are.

What real time adds is shown too, as shares of the cost: ``requests`` is the time from the
server's word that a job is done to the result, and ``timers`` is how late timers were.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks import polling_plan as plan
from benchmarks._report import Report, table
from benchmarks.distributions import DISTRIBUTIONS
from benchmarks.polling_checks import checks
from benchmarks.polling_figures import Figures, Measured, ratio
from modelmax_async import AdaptivePolicy

#: Runs at once. A run of the small sizes takes a seventh of a core, one of the large a third.
_SMALL, _LARGE = 4, 2
_NAMES = (
    "documented loop",
    "fal-client",
    "runwayml",
    "openai",
    "plain backoff",
    "ours, cold",
    "ours, warm",
    "ours, warm, 60 s",
    "ours, as many polls",
)


def run(*, quick: bool = False) -> Report:
    """Measure all streams and batches, then those that depend on the documented loop's."""
    sizes = plan.QUICK if quick else plan.FULL
    found = plan.measure(plan.streams(sizes) + plan.batches(sizes), _SMALL)
    loops = [
        each
        for each in found
        if each.run.contender == "documented loop" and each.run.scenario == "stream"
    ]
    found += plan.measure(plan.matching(sizes, loops), _SMALL)
    found += plan.measure(plan.large_batches(sizes), _LARGE)
    rows = _rows(found)
    return Report("polling", rows, _text(rows), checks(found, sizes))


def _rows(found: Sequence[Measured]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, int], list[Measured]] = {}
    for each in found:
        run = each.run
        size = max(run.jobs, plan.FULL.batches[0]) if run.scenario == "batch" else 0
        groups.setdefault((run.distribution, run.scenario, size), []).append(each)
    names = list(DISTRIBUTIONS)
    rows = []
    for key in sorted(groups, key=lambda key: (names.index(key[0]), key[1] == "batch", key[2])):
        group = sorted(groups[key], key=lambda each: _NAMES.index(each.name))
        rows += [_row(each) for each in group]
        longest = max(group, key=lambda each: each.run.jobs)
        rows.append(_best_row(longest))
    return rows


def _row(each: Measured) -> dict[str, Any]:
    figures = each.figures
    return {
        **dataclasses.asdict(each.run),
        **dataclasses.asdict(figures),
        "contender": each.name,
        "cost": figures.cost,
        "ratio": ratio([each]),
        "bounded": ratio([each], longest=AdaptivePolicy().maximum),
        "requests": figures.fetch / figures.cost,
        "polls_per_s": figures.polls * figures.jobs / each.real_seconds,
        "late": each.late,
        "cpu": each.cpu_seconds / each.real_seconds,
    }


def _best_row(each: Measured) -> dict[str, Any]:
    figures = Figures.of(each.best())
    return {
        **dataclasses.asdict(each.run),
        **dataclasses.asdict(figures),
        "contender": "optimum",
        "cost": figures.cost,
        "ratio": 1.0,
        "bounded": figures.cost / Figures.of(each.best(AdaptivePolicy().maximum)).cost,
    }


def _text(rows: Sequence[dict[str, Any]]) -> str:
    head = (
        "distribution",
        "scenario",
        "contender",
        "jobs",
        "polls/job",
        "mean lag, s",
        "p95 lag, s",
        "cost, s",
        "/ optimum",
        "/ optimum of 15 s",
        "requests",
        "timers",
        "speed",
        "polls/s",
        "CPU",
    )

    def measured(row: dict[str, Any]) -> list[str]:
        if "cpu" not in row:
            return ["-"] * 5
        late = f"{row['late'] / row['cost']:.1%}"
        speed = f"{row['speed']:.3g} x"
        return [
            f"{row['requests']:.1%}",
            late,
            speed,
            f"{row['polls_per_s']:.0f}",
            f"{row['cpu']:.0%}",
        ]

    return table(
        head,
        [
            (
                row["distribution"],
                row["scenario"],
                row["contender"] + (f" ({row['dial']:.3g})" if row["dial"] else ""),
                f"{row['jobs']:,}",
                f"{row['polls']:.2f}",
                f"{row['lag']:.2f}",
                f"{row['p95_lag']:.2f}",
                f"{row['cost']:.2f}",
                f"{row['ratio']:.2f}",
                f"{row['bounded']:.2f}",
                *measured(row),
            )
            for row in rows
            if row["seed"] == 1
        ],
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(quick=parser.parse_args().quick).show()


if __name__ == "__main__":
    main()

"""Draw lag against polls per job for log-normal jobs: ``python -m benchmarks.polling_plot``.

One curve for each contender with a dial, one point for each other one, and the optimum. All
jobs come as streams, as in `benchmarks.polling`. The picture of the README is
``benchmarks/polling.svg``.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import optimum
from benchmarks.distributions import DISTRIBUTIONS
from benchmarks.polling_figures import Figures, Measured, best_schedule
from benchmarks.polling_jobs import Record, Run
from benchmarks.polling_plan import FULL, measure

_NAME = "log-normal"
#: The defaults of the dials, and values on both sides.
_DIALS = {
    "documented loop": (2.0, 3.0, 5.0, 8.0, 15.0),
    "plain backoff": (2.5, 5.0, 10.0, 20.0, 40.0),
    "ours": (0.02, 0.06, 0.2, 0.6, 2.0),
}
_DEFAULTS = {"documented loop": 5.0, "plain backoff": 10.0, "ours": 0.2}
_LIMIT = (0.01, 0.02, 0.04, 0.08, 0.14, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0)
#: Speed and jobs of the contenders without a dial.
_OTHERS = {"runwayml": (16.0, 200), "openai": (8.0, 100), "fal-client": (2.0, 20)}
_LABELS = {
    "documented loop": "documented loop, every 2 to 15 s",
    "plain backoff": "plain backoff: PollPolicy(maximum=2.5 to 40)",
    "ours": "default: AdaptivePolicy(poll_cost=0.02 to 2)",
    "optimum": "best possible schedule",
}
#: Colours that can be read on white and on black.
_COLOURS = {
    "documented loop": "#d9822b",
    "plain backoff": "#9b6bdf",
    "ours": "#2f9e6e",
    "optimum": "#7d8590",
}
_GREY, _RED = "#7d8590", "#d1495b"
#: A contender with more polls per job stands beside the picture.
_WIDEST = 200
_JOBS = 200
_FILE = Path(__file__).with_name("polling.svg")


def runs() -> list[Run]:
    """Return the runs that the picture shows."""
    speed = DISTRIBUTIONS[_NAME].speed
    found = [
        Run(name, _NAME, "stream", _JOBS, speed, dial=dial)
        for name, dials in _DIALS.items()
        for dial in dials
    ]
    found = [
        dataclasses.replace(run, learnt=FULL.learnt) if run.contender == "ours" else run
        for run in found
    ]
    return found + [
        Run(name, _NAME, "stream", jobs, speed) for name, (speed, jobs) in _OTHERS.items()
    ]


def limit() -> list[Figures]:
    """Return the figures of the optimum for many jobs, for one poll cost after the other."""
    durations = DISTRIBUTIONS[_NAME].draw(10_000, 1)
    found = []
    for poll_cost in _LIMIT:
        jobs = optimum.measure(best_schedule(_NAME, poll_cost), durations)
        found.append(Figures.of([Record(0.0, polls, lag, 0.0) for polls, lag in jobs]))
    return found


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Write the picture as an SVG that is the same for the same figures."""
    coloured = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = dict.fromkeys(coloured, _GREY)
    settings |= {"svg.hashsalt": "polling", "svg.fonttype": "none", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.add_subplot(xscale="log", yscale="log")
        _curves(axes, measured)
        _points(axes, measured)
        _furnish(axes)
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


def _curves(axes: Any, measured: Sequence[Measured]) -> None:
    for name in _DIALS:
        mine = sorted(
            (each for each in measured if each.run.contender == name),
            key=lambda each: each.run.dial or 0.0,
        )
        style = {"color": _COLOURS[name], "label": _LABELS[name], "linewidth": 1.8}
        points = [each.figures for each in mine]
        axes.plot([p.polls for p in points], [p.lag for p in points], "o-", ms=4, **style)
        usual = [each.figures for each in mine if each.run.dial == _DEFAULTS[name]]
        axes.plot(
            [p.polls for p in usual], [p.lag for p in usual], "o", ms=9, color=style["color"]
        )
    best = limit()
    axes.plot(
        [p.polls for p in best],
        [p.lag for p in best],
        "--",
        color=_COLOURS["optimum"],
        label=_LABELS["optimum"],
    )


def _points(axes: Any, measured: Sequence[Measured]) -> None:
    for each in measured:
        if each.run.contender in _OTHERS:
            figures = each.figures
            if figures.polls > _WIDEST:
                text = f"{each.run.contender}: {figures.polls:.0f} calls, {figures.lag:.2f} s →"
                axes.text(0.99, 0.02, text, ha="right", color=_RED, transform=axes.transAxes)
                continue
            axes.plot([figures.polls], [figures.lag], "s", ms=6, color=_RED)
            axes.annotate(
                each.run.contender,
                (figures.polls, figures.lag),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                color=_RED,
            )


def _furnish(axes: Any) -> None:
    axes.set_xlabel("status calls per job")
    axes.set_ylabel("mean seconds from a job's end to its result")
    axes.margins(0.07)
    axes.set_title("Jobs that take 75 s (log-normal, sigma 0.35)", fontsize=11)
    axes.set_xticks([3, 5, 10, 20, 30, 50, 100])
    axes.set_yticks([0.5, 1, 2, 3, 5, 10, 20])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(mpl.ticker.NullLocator())
    axes.grid(color=_GREY, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, labelcolor=_GREY, loc="upper right")


def main() -> None:
    """Measure, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=_FILE)
    draw(measure(runs(), 3), parser.parse_args().output)


if __name__ == "__main__":
    main()

"""What must hold of the measured polling schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks._report import Check
from benchmarks.distributions import DISTRIBUTIONS
from benchmarks.polling_figures import Figures, Measured, ratio
from benchmarks.polling_plan import Sizes
from modelmax_async import AdaptivePolicy

#: Bounds of the cost, divided by the optimum's.
_WARM, _COLD, _DRIFTED = 1.15, 1.25, 1.3
#: Jobs after the drift that do not count yet.
_FOLLOWED = 60
#: Bounds of the lag with as many polls as the documented loop, divided by the loop's lag.
_LAGS = {"log-normal": 0.65, "mixture": 0.8, "fast": 0.6, "slow": 0.85, "exponential": 1.0}
#: How far these polls may be from the loop's.
_AS_MANY = 0.05

Find = Callable[[str, str, str], list[Measured]]


def checks(measured: Sequence[Measured], sizes: Sizes) -> list[Check]:
    """Return every check whose runs were measured."""

    def find(name: str, distribution: str, scenario: str) -> list[Measured]:
        return [
            each
            for each in measured
            if each.name == name
            and each.run.distribution == distribution
            and each.run.scenario == scenario
            and each.run.jobs != sizes.batches[0]
        ]

    return [
        *_against_the_optimum(find, sizes),
        *_against_the_loop(find),
        *_with_as_many_polls(find),
        *_after_the_drift(find),
    ]


def _against_the_optimum(find: Find, sizes: Sizes) -> list[Check]:
    """Compare with the optimum, and with the best schedule of no longer intervals than ours.

    The optimum for jobs of many minutes begins with intervals of minutes. No schedule with
    intervals up to the default ``maximum`` can come near it, so the policy is also measured
    with a larger one there.
    """
    found = []
    longest = AdaptivePolicy().maximum
    bounded = f"the optimum with intervals up to {longest:g} s"
    for name, distribution in DISTRIBUTIONS.items():
        if distribution.later is not None:
            continue
        for what, state, part, bound in (
            ("warm", "ours, warm", slice(None), _WARM),
            ("warm, maximum=60", "ours, warm, 60 s", slice(None), _WARM),
            (f"cold, first {sizes.first} jobs", "ours, cold", slice(sizes.first), _COLD),
        ):
            if runs := find(state, name, "stream"):
                text = f"{name}, {what}: cost / "
                found.append(Check(f"{text}the optimum", ratio(runs, part), "<=", bound))
                if state != "ours, warm, 60 s":
                    figure = ratio(runs, part, longest)
                    found.append(Check(text + bounded, figure, "<=", bound))
    return found


def _against_the_loop(find: Find) -> list[Check]:
    found = []
    for distribution, most_polls in (("log-normal", 1.0), ("fast", 1.1)):
        for scenario in ("stream", "batch"):
            for state in ("warm", "cold"):
                ours = find(f"ours, {state}", distribution, scenario)
                loop = find("documented loop", distribution, scenario)
                if not (ours and loop):
                    continue
                a, b = _largest(ours), _largest(loop)
                what = f"{distribution}, {state}, {scenario}: %s / documented loop"
                found.append(Check(what % "polls", a.polls / b.polls, "<=", most_polls))
                found.append(Check(what % "lag", a.lag / b.lag, "<=", 1.0))
    return found


def _with_as_many_polls(find: Find) -> list[Check]:
    found = []
    for distribution, bound in _LAGS.items():
        ours = find("ours, as many polls", distribution, "stream")
        loop = find("documented loop", distribution, "stream")
        if not (ours and loop):
            continue
        a, b = _largest(ours), _largest(loop)
        what = f"{distribution}, warm, as many polls: %s / documented loop"
        found.append(Check(what % "lag", a.lag / b.lag, "<=", bound))
        apart = abs(a.polls / b.polls - 1)
        found.append(Check(f"{distribution}: polls apart", apart, "<=", _AS_MANY))
    return found


def _after_the_drift(find: Find) -> list[Check]:
    found = []
    for state in ("warm", "cold"):
        for each in find(f"ours, {state}", "drift", "stream"):
            if each.run.jobs // 2 <= _FOLLOWED:
                continue
            after = slice(each.run.jobs // 2 + _FOLLOWED, None)
            what = f"drift, {state}, from job {_FOLLOWED + 1} after it: cost / optimum"
            found.append(Check(what, ratio([each], after), "<=", _DRIFTED))
    return found


def _largest(measured: Sequence[Measured]) -> Figures:
    return max(measured, key=lambda each: each.run.jobs).figures

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
    """Compare with the best of all schedules whose intervals are no longer than our default's.

    Without that bound, the optimum for jobs of many minutes begins with intervals of minutes,
    and no schedule with shorter ones can come near it.
    """
    found = []
    longest = AdaptivePolicy().maximum
    bounded = f"the optimum with intervals up to {longest:g} s"
    for name, distribution in DISTRIBUTIONS.items():
        if distribution.later is not None:
            continue
        if warm := find("ours, warm", name, "stream"):
            figure = ratio(warm, longest=longest)
            found.append(Check(f"{name}, warm: cost / {bounded}", figure, "<=", _WARM))
        if warm := find("ours, warm, 60 s", name, "stream"):
            what = f"{name}, warm, maximum=60: cost / the optimum of all schedules"
            found.append(Check(what, ratio(warm), "<=", _WARM))
        if cold := find("ours, cold", name, "stream"):
            what = f"{name}, cold, first {sizes.first} jobs: cost / {bounded}"
            figure = ratio(cold, slice(sizes.first), longest)
            found.append(Check(what, figure, "<=", _COLD))
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

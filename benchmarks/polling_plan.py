"""Which runs the polling benchmark measures, and how many of them at once."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from benchmarks._local import LocalServer, in_child
from benchmarks.distributions import DISTRIBUTIONS
from benchmarks.polling_figures import Measured
from benchmarks.polling_jobs import Run
from benchmarks.polling_run import OPEN

#: Contenders that poll rarely enough for every run. The speed of a run is multiplied: requests
#: are a smaller part of the others' costs, which are higher, or contain no billed call.
_FRUGAL = {"documented loop": 2.0, "runwayml": 2.0, "plain backoff": 1.5, "ours": 1.0}
#: Speed and jobs of those that poll every 1 s and every 0.1 s: one process can send no more.
_EAGER = {"openai": (8.0, 100), "fal-client": (2.0, 20)}
#: fal-client polls a job hundreds of times, so two distributions must do.
_FAL = frozenset({"log-normal", "fast"})
#: Speeds of the large batch, whose first polls all start at the same moment.
_LARGE = {"log-normal": 1.5, "fast": 0.6}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        stream: jobs of a stream.
        learnt: jobs that a warm client has waited for before.
        first: jobs of a stream that count as the first ones of a cold client.
        seeds: streams of so many first jobs.
        batches: sizes of the small and the large batch.
        distributions: those that are measured.
    """

    stream: int = 400
    learnt: int = 300
    first: int = 100
    seeds: int = 5
    batches: tuple[int, int] = (50, 2_000)
    distributions: tuple[str, ...] = tuple(DISTRIBUTIONS)


FULL = Sizes()
QUICK = Sizes(stream=100, learnt=100, seeds=1, batches=(50, 200), distributions=("fast",))


def streams(sizes: Sizes) -> list[Run]:
    """Return a stream for each contender and distribution, and further cold ones."""
    found = []
    for name in sizes.distributions:
        distribution = DISTRIBUTIONS[name]
        plain = Run("ours", name, "stream", sizes.stream, distribution.speed)
        found += _each(plain, sizes)
        if distribution.later is None:
            found += [
                dataclasses.replace(plain, jobs=sizes.first, seed=seed)
                for seed in range(2, sizes.seeds + 1)
            ]
    return found


def batches(sizes: Sizes) -> list[Run]:
    """Return a small batch for each contender and distribution that does not drift."""
    found = []
    for name in sizes.distributions:
        distribution = DISTRIBUTIONS[name]
        if distribution.later is None:
            plain = Run("ours", name, "batch", sizes.batches[0], distribution.speed)
            found += _each(plain, sizes)
    return found


def _each(plain: Run, sizes: Sizes) -> list[Run]:
    """Return the run for each contender."""
    found = [
        dataclasses.replace(plain, contender=name, speed=plain.speed * factor)
        for name, factor in _FRUGAL.items()
    ]
    found.append(dataclasses.replace(plain, learnt=sizes.learnt))
    if plain.distribution == "slow":  # where the default's longest interval matters
        found.append(dataclasses.replace(found[-1], maximum=60.0))
    found += [
        dataclasses.replace(
            plain, contender=name, jobs=min(plain.jobs, most), speed=min(plain.speed, fastest)
        )
        for name, (fastest, most) in _EAGER.items()
        if name != "fal-client" or plain.distribution in _FAL
    ]
    return found


def large_batches(sizes: Sizes) -> list[Run]:
    """Return the large batches, which are not measured by contenders that poll too often."""
    found = []
    jobs = sizes.batches[1]
    for name, speed in _LARGE.items():
        if name not in sizes.distributions:
            continue
        faster = math.sqrt(FULL.batches[1] / jobs)
        plain = Run("ours", name, "batch", jobs, speed * faster)
        contenders = tuple(_FRUGAL) if name == "log-normal" else ("documented loop", "ours")
        found += [dataclasses.replace(plain, contender=each) for each in contenders]
        found.append(dataclasses.replace(plain, learnt=sizes.learnt))
    return found


def matching(sizes: Sizes, loops: Iterable[Measured]) -> list[Run]:
    """Return a warm stream with as many polls as each of the documented loop's streams.

    It runs at half the speed: with more polls the lag is shorter, and requests a larger part.
    """
    return [
        dataclasses.replace(
            loop.run,
            contender="ours",
            speed=distribution.speed / 2,
            learnt=sizes.learnt,
            match=loop.figures.polls,
        )
        for loop in loops
        for distribution in [DISTRIBUTIONS[loop.run.distribution]]
        if distribution.later is None
    ]


def measure(runs: Iterable[Run], at_once: int) -> list[Measured]:
    """Measure each run in a child process with a server of its own, the longest first."""

    def one(run: Run) -> Measured:
        with LocalServer(3600) as server:
            text = json.dumps(dataclasses.asdict(run))
            return Measured.from_json(
                in_child("benchmarks.polling_run", server.url, text, timeout=3600)
            )

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, sorted(runs, key=_length, reverse=True)))


def _length(run: Run) -> float:
    """Return about how many real seconds a run takes."""
    mean = DISTRIBUTIONS[run.distribution].mean
    jobs = (run.jobs if run.scenario == "stream" else 0) * (1 if run.match is None else 2)
    return mean * ((jobs + run.learnt / 2) / OPEN + 2.5) / run.speed

"""What is learnt about how long jobs take: ends and seconds of waiting, by age.

Each poll of a job tells one of two facts: the job was still alive at that age, or it ended
between that poll and the one before. Ages are divided into pieces, six for each doubling.
For each piece, `Durations` keeps the seconds that jobs were observed in it and the number of
jobs that ended in it; their ratio is the hazard, the rate at which jobs end at that age. Both
are sums, so that observations add up, whatever their order and whichever process made them.

What was learnt is forgotten slowly: each job that is observed through a piece takes 1 % off
what that piece holds. A piece thus remembers about the last hundred jobs that reached its age.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import attrs

#: Pieces for each doubling of the age, and the age at which the first of them begins.
_PER_DOUBLING, _FIRST = 6, 1.0
#: Doublings: from one second to more than two hours.
_DOUBLINGS = 13
#: The ages in seconds at which the pieces begin; the last one has no end.
STARTS = (0.0, *(_FIRST * 2 ** (k / _PER_DOUBLING) for k in range(_DOUBLINGS * _PER_DOUBLING)))
ENDS = (*STARTS[1:], math.inf)
#: The last piece counts as this long when its memory fades.
LENGTHS = tuple(
    (end if end < math.inf else 2 * start) - start
    for start, end in zip(STARTS, ENDS, strict=True)
)
PIECES = len(STARTS)
#: The fraction of a piece's memory that each job which passes through it takes off.
FORGETTING = 0.01
#: An end between two polls is shared by this power of the age: the probability that it was
#: before an age is ``age ** _LATE`` in proportion.
_LATE = 7
#: The most ends that a stored piece can hold; a larger number is not from here.
_MOST = 10_000.0


def piece_at(age: float) -> int:
    """Return the index of the piece that an age in seconds falls into."""
    if age < _FIRST:
        return 0
    k = min(PIECES - 1, 1 + int(math.log2(age / _FIRST) * _PER_DOUBLING))
    if age >= ENDS[k]:  # the logarithm was rounded down
        return k + 1
    return k - 1 if age < STARTS[k] else k


@attrs.define
class Durations:
    """The ends and the seconds that were observed in each piece of age.

    Args:
        ends: the number of jobs that ended in each piece.
        seconds: the seconds that jobs were observed in each piece.
        forgetting: the fraction of a piece's memory that each job takes off.
    """

    ends: list[float] = attrs.field(factory=lambda: [0.0] * PIECES)
    seconds: list[float] = attrs.field(factory=lambda: [0.0] * PIECES)
    forgetting: float = attrs.field(default=FORGETTING, repr=False)

    def alive(self, start: float, end: float) -> None:
        """Note that a job did not end between two ages in seconds."""
        for k, seconds in _pieces(start, end):
            self._fade(k, seconds)
            self.seconds[k] += seconds

    def ended(self, start: float, end: float) -> None:
        """Note that a job ended between two ages in seconds.

        The end is shared over the pieces between them, most of it over the latest: few jobs end
        long before they can be done. It matters for the long interval before a first poll, and
        hardly at all for the short ones later.
        """
        before = (start / end) ** _LATE if 0 < start < end else 0.0
        if end <= start or before == 1.0:
            self.ends[piece_at(end)] += 1.0
            return
        whole, left = 1.0 - before, 1.0  # left: the probability of an end after this age
        for k, seconds in _pieces(start, end):
            start += seconds
            until = (start / end) ** _LATE
            here = (until - before) / whole
            self._fade(k, seconds)
            self.ends[k] += here
            self.seconds[k] += seconds * (left - here / 2)
            left, before = left - here, until

    def _fade(self, k: int, seconds: float) -> None:
        kept = 1.0 - self.forgetting * min(1.0, seconds / LENGTHS[k])
        self.ends[k] *= kept
        self.seconds[k] *= kept

    def plus(self, newer: Durations) -> Durations:
        """Return the sum with newer observations, which make this one fade as they should."""
        passed = (s / length for s, length in zip(newer.seconds, LENGTHS, strict=True))
        kept = [(1.0 - self.forgetting) ** jobs for jobs in passed]
        return Durations(
            [a * k + b for a, k, b in zip(self.ends, kept, newer.ends, strict=True)],
            [a * k + b for a, k, b in zip(self.seconds, kept, newer.seconds, strict=True)],
            self.forgetting,
        )

    def beside(self, other: Durations) -> Durations:
        """Return the sum with observations of other jobs, which make none of these fade."""
        return Durations(
            list(map(float.__add__, self.ends, other.ends)),
            list(map(float.__add__, self.seconds, other.seconds)),
            self.forgetting,
        )

    def to_list(self) -> list[list[float]]:
        """Return ends and seconds with four significant digits, for JSON."""
        return [_trimmed(self.ends), _trimmed(self.seconds)]

    @classmethod
    def from_list(cls, data: Any) -> Self:
        """Return the durations of a list from `to_list`.

        Raises:
            ValueError: if it cannot come from there.
        """
        if not isinstance(data, list) or len(data) != 2:  # noqa: PLR2004 - ends and seconds
            raise ValueError("not a pair of lists")
        ends, seconds = data
        return cls(
            _filled(ends, [_MOST] * PIECES),
            _filled(seconds, [_MOST * length for length in LENGTHS]),
        )


def _pieces(start: float, end: float) -> Iterator[tuple[int, float]]:
    """Yield each piece between two ages, and the seconds that lie in it."""
    if end <= start:
        return
    k = piece_at(start)
    while end > ENDS[k]:
        yield k, ENDS[k] - start
        start = ENDS[k]
        k += 1
    yield k, end - start


def _trimmed(values: list[float]) -> list[float]:
    last = max((k for k, value in enumerate(values) if value), default=-1)
    return [_rounded(value) for value in values[: last + 1]]


def _rounded(value: float) -> float:
    """Return four significant digits, as an ``int`` if that is shorter in JSON."""
    found = float(f"{value:.4g}")
    return int(found) if found.is_integer() else found


def _filled(values: Any, most: list[float]) -> list[float]:
    if not isinstance(values, list) or len(values) > PIECES:
        raise ValueError("not a list of at most one number for each piece")
    found = [_number(value, bound) for value, bound in zip(values, most, strict=False)]
    return found + [0.0] * (PIECES - len(found))


def _number(value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"not a number from 0 to {most:g}: {value!r:.40}")
    return float(value)

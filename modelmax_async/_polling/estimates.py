"""What one client has learnt about one model, and its present estimates.

What was learnt goes from `fresh` to `sending` to `kept`, so that nothing is lost or counted
twice while a ledger writes it, or fails to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import reduce

import attrs

from modelmax_async._errors.sentences import plain
from modelmax_async._polling.durations import Durations
from modelmax_async._polling.forecast import Forecast
from modelmax_async._polling.hazard import Hazard
from modelmax_async._polling.learnt import Learnt
from modelmax_async._polling.observation import Basis

_log = logging.getLogger("modelmax_async")

#: The number of ended jobs from which an estimate is told to people: three, less what each
#: later one has made the earlier ones fade.
USABLE = 2.5
#: The number of ended jobs after which what was learnt is written.
BATCH = 16
#: An estimate is made anew after so many observations: few at first, and then more, because
#: it takes as long as a poll.
_FEW, _GROWTH, _MANY = 4, 1 / 32, 64


@attrs.define(eq=False)
class _Estimate:
    """A hazard, and the observations: in all, and until it is made anew."""

    hazard: Hazard
    observations: int
    valid: int


@attrs.define(eq=False)
class LearntModel:
    """What was learnt about one model.

    Attributes:
        kept: what the ledger holds.
        sending: what is being written to it.
        fresh: what was learnt since.
        ends: the number of ends in ``fresh``.
        next_save: the number of ends at which it is written.
        saving: held while it is written.
        estimates: the hazard for each basis.
        told: the origins of which an estimate was logged.
    """

    name: str
    kept: Learnt = attrs.field(factory=Learnt)
    sending: Learnt = attrs.field(factory=Learnt)
    fresh: Learnt = attrs.field(factory=Learnt)
    ends: int = 0
    next_save: int = BATCH
    saving: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    estimates: dict[Basis, _Estimate] = attrs.field(factory=dict)
    told: set[Basis] = attrs.field(factory=set)

    def alive(self, basis: Basis, start: float, end: float) -> None:
        self.fresh.alive(basis, start, end)
        self._observed(basis, 1)

    def ended(self, basis: Basis, start: float, end: float) -> None:
        self.fresh.ended(basis, start, end)
        self._observed(basis, _FEW)  # an end says more than that a job is alive

    def _observed(self, basis: Basis, weight: int) -> None:
        found = self.estimates.get(basis)
        if found is not None:
            found.observations += 1
            found.valid -= weight

    def hazard(self, basis: Basis) -> Hazard:
        """Return the present estimate."""
        found = self.estimates.get(basis)
        if found is not None and found.valid > 0:
            return found.hazard
        hazard = Hazard.of(self._durations(basis))
        if found is None:
            found = self.estimates[basis] = _Estimate(hazard, 0, 0)
        found.hazard = hazard
        found.valid = min(_MANY, _FEW + int(found.observations * _GROWTH))
        return hazard

    def overall(self, bases: Sequence[Basis]) -> Hazard:
        """Return an estimate from several bases together."""
        return Hazard.of(reduce(Durations.beside, map(self._durations, bases)))

    def _durations(self, basis: Basis) -> Durations:
        parts = (part.get(basis) for part in (self.kept, self.sending, self.fresh))
        return reduce(Durations.plus, parts)

    def tell(self, bases: Sequence[Basis]) -> None:
        """Log the first usable estimate of jobs that are counted from one origin."""
        if bases[0] in self.told:
            return
        hazard = self.overall(bases)
        if hazard.jobs < USABLE:
            return
        self.told.add(bases[0])
        fresh = Forecast(0.0, *hazard)
        _log.debug(
            "model %s: half of the jobs end within %.0f s and 90 %% within %.0f s after %s, "
            "learnt from %.0f jobs",
            plain(self.name),
            fresh.quantile(0.5),
            fresh.quantile(0.9),
            "their submit" if bases[0] is Basis.SUBMITTED else "their first poll",
            hazard.jobs,
        )

    def keep(self, kept: Learnt) -> None:
        """Replace what the ledger holds."""
        self.kept = kept
        for estimate in self.estimates.values():
            estimate.valid = 0

    def send(self) -> tuple[Learnt, int]:
        """Return what is to be written, and the number of ends in it."""
        self.sending, self.fresh = self.fresh, Learnt()
        ends, self.ends = self.ends, 0
        return self.sending, ends

    def sent(self, kept: Learnt) -> None:
        """Note that it was written, and what the ledger holds now."""
        self.sending, self.next_save = Learnt(), BATCH
        self.keep(kept)

    def not_sent(self, ends: int) -> None:
        """Take back what could not be written; it is written with the next few ends."""
        self.fresh, self.sending = self.sending.plus(self.fresh), Learnt()
        self.ends += ends
        self.next_save = self.ends + BATCH

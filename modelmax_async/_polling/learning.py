"""What one client learns about how long jobs take, and how it is kept in its ledger.

Each model is learnt apart. What was learnt is loaded once, and written after every few ends and
when the client closes. A ledger that fails, or holds a damaged record, costs a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import reduce

import attrs

from modelmax_async._models import Expected
from modelmax_async._polling.durations import Durations
from modelmax_async._polling.forecast import Forecast
from modelmax_async._polling.hazard import Hazard
from modelmax_async._polling.learnt import VERSION, Learnt, added
from modelmax_async._polling.observation import Basis, Observation
from modelmax_async._runtime.tasks import Life, Tasks
from modelmax_async.ledger import KeepsDurations, Ledger

_log = logging.getLogger("modelmax_async")

#: The number of ended jobs from which an estimate is told to people.
USABLE = 3
#: The number of ended jobs after which what was learnt is written.
_BATCH = 16
#: The seconds that a ledger has to load or to write.
_PATIENCE = 15.0
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
class _Model:
    """What was learnt about one model.

    Attributes:
        kept: what the ledger holds, or would hold if it kept durations.
        fresh: what was learnt since.
        ends: the number of ends in ``fresh``.
        estimates: the hazard for each basis.
    """

    name: str
    kept: Learnt = attrs.field(factory=Learnt)
    fresh: Learnt = attrs.field(factory=Learnt)
    ends: int = 0
    estimates: dict[Basis, _Estimate] = attrs.field(factory=dict)

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
        hazard = Hazard.of(self.kept.get(basis).plus(self.fresh.get(basis)))
        if hazard.jobs >= USABLE > (0.0 if found is None else found.hazard.jobs):
            self._tell(basis, hazard)
        if found is None:
            found = self.estimates[basis] = _Estimate(hazard, 0, 0)
        found.hazard = hazard
        found.valid = min(_MANY, _FEW + int(found.observations * _GROWTH))
        return hazard

    def overall(self, bases: Sequence[Basis]) -> Hazard:
        """Return an estimate from several bases together."""
        both = self.kept.plus(self.fresh)
        return Hazard.of(reduce(Durations.plus, map(both.get, bases)))

    def _tell(self, basis: Basis, hazard: Hazard) -> None:
        fresh = Forecast(0.0, *hazard)
        _log.debug(
            "model %s, %s: half of the jobs end within %.0f s and 90 %% within %.0f s, learnt "
            "from %.0f jobs",
            self.name,
            basis.replace("_", " "),
            fresh.quantile(0.5),
            fresh.quantile(0.9),
            hazard.jobs,
        )

    def keep(self, kept: Learnt) -> None:
        """Replace what the ledger holds."""
        self.kept = kept
        for estimate in self.estimates.values():
            estimate.valid = 0


class Learning:
    """What one client has learnt, by model."""

    def __init__(self, ledger: Ledger, origin: str, tasks: Tasks) -> None:
        self._ledger = ledger if isinstance(ledger, KeepsDurations) else None
        self._origin = origin
        self._tasks = tasks
        self._models: dict[str, _Model] = {}
        self._loading: asyncio.Task[None] | None = None

    def begin(self) -> asyncio.Task[None]:
        """Load what the ledger holds, at the client's first wait; return the task."""
        if self._loading is None:
            self._loading = self._tasks.spawn(self._load())
        return self._loading

    def seen(self, model: str, observation: Observation, now: float, status: str) -> None:
        """Note that a poll saw a job alive; ``now`` is the event loop's time."""
        observation.seen(now, status, self._model(model).alive)

    def ended(self, model: str, observation: Observation, now: float) -> None:
        """Note that a poll saw that a job has ended; ``now`` is the event loop's time."""
        learnt = self._model(model)
        if observation.alive is None:
            return
        observation.ended(now, learnt.ended)
        learnt.ends += 1
        if learnt.ends >= _BATCH and self._tasks.life is Life.OPEN:
            self._tasks.spawn(self._save(learnt))

    def forecast(self, model: str, basis: Basis, age: float) -> Forecast:
        """Return what was learnt about jobs of this age in seconds."""
        return Forecast(max(0.0, age), *self._model(model).hazard(basis))

    def expected(self, model: str, observation: Observation, now: float) -> Expected | None:
        """Return the seconds still to go; ``None`` until a few jobs have ended."""
        forecast = self.forecast(model, *observation.whole_life(now))
        if forecast.jobs < USABLE:  # of jobs just like this one
            bases, age = observation.from_the_origin(now)
            forecast = Forecast(max(0.0, age), *self._model(model).overall(bases))
        if forecast.jobs < USABLE:
            return None
        return Expected(forecast.quantile(0.5), forecast.quantile(0.9))

    async def save(self) -> None:
        """Write what was learnt about every model."""
        for learnt in self._models.values():
            if learnt.ends:
                await self._save(learnt)

    def _model(self, name: str) -> _Model:
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = _Model(name)
        return found

    async def _load(self) -> None:
        if self._ledger is None:
            return
        records: Mapping[str, bytes] = {}
        try:
            async with asyncio.timeout(_PATIENCE):
                records = await self._ledger.load_durations(self._origin, VERSION)
        except Exception as exc:  # noqa: BLE001 - the ledger may be the user's own
            _log.warning("the learnt durations could not be loaded from the ledger: %s", exc)
        for name, record in records.items():
            self._keep(self._model(name), record, local=True)

    def _keep(self, learnt: _Model, record: bytes, *, local: bool) -> None:
        try:
            found = Learnt.from_bytes(record)
        except ValueError as exc:
            _log.warning("the durations of model %s are ignored: %s", learnt.name, exc)
            return
        learnt.keep(found.plus(learnt.kept) if local else found)

    async def _save(self, learnt: _Model) -> None:
        fresh, learnt.fresh, learnt.ends = learnt.fresh, Learnt(), 0
        learnt.kept = learnt.kept.plus(fresh)
        if self._ledger is None:
            return
        await asyncio.wait([self.begin()])  # or it might load what is written here
        try:
            async with asyncio.timeout(_PATIENCE):
                record = await self._ledger.add_durations(
                    self._origin, learnt.name, VERSION, lambda old: added(old, fresh)
                )
        except Exception as exc:  # noqa: BLE001 - the ledger may be the user's own
            _log.warning("the learnt durations could not be written to the ledger: %s", exc)
        else:
            self._keep(learnt, record, local=False)

"""What one client learns about how long jobs take, and how it is kept in its ledger.

Each model is learnt apart. What was learnt is loaded once, and written after every few ends and
when the client closes. A ledger that fails, or holds a damaged record, costs a line in the log.
"""

from __future__ import annotations

import asyncio
import logging

from modelmax_async._errors.sentences import plain
from modelmax_async._polling.estimates import USABLE, LearntModel
from modelmax_async._polling.forecast import Expected, Forecast
from modelmax_async._polling.learnt import VERSION, Learnt, added
from modelmax_async._polling.observation import Basis, Observation
from modelmax_async._runtime.tasks import Life, Tasks
from modelmax_async.ledger import KeepsDurations, Ledger

_log = logging.getLogger("modelmax_async")

#: The seconds that a ledger has to load or to write.
_PATIENCE = 15.0


class Learning:
    """What one client has learnt, by model."""

    def __init__(self, ledger: Ledger, origin: str, tasks: Tasks) -> None:
        self._ledger = ledger if isinstance(ledger, KeepsDurations) else None
        self._origin = origin
        self._tasks = tasks
        self._models: dict[str, LearntModel] = {}
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
        if observation.alive is None:
            return
        learnt = self._model(model)
        observation.ended(now, learnt.ended)
        learnt.tell(observation.from_the_origin(now)[0])
        learnt.ends += 1
        due = learnt.ends >= learnt.next_save and not learnt.saving.locked()
        if due and self._ledger is not None and self._tasks.life is Life.OPEN:
            self._tasks.spawn(self._save(learnt))

    def forecast(self, model: str, basis: Basis, age: float) -> Forecast:
        """Return what was learnt about jobs of this age in seconds."""
        return Forecast(max(0.0, age), *self._model(model).hazard(basis))

    def expected(self, model: str, observation: Observation, now: float) -> Expected | None:
        """Return the seconds still to go of a job that was polled, if they are known."""
        forecast = self.forecast(model, *observation.whole_life(now))
        if forecast.jobs < USABLE:  # of jobs just like this one
            return self.expected_unseen(model, observation, now)
        return _expected(forecast)

    def expected_unseen(
        self, model: str, observation: Observation, now: float
    ) -> Expected | None:
        """Return the seconds still to go of a job that may be in the queue or not."""
        bases, age = observation.from_the_origin(now)
        forecast = Forecast(max(0.0, age), *self._model(model).overall(bases))
        return _expected(forecast) if forecast.jobs >= USABLE else None

    async def save(self) -> None:
        """Write what was learnt about every model."""
        for learnt in list(self._models.values()):  # a load may add some
            if self._ledger is not None:
                await self._save(learnt)

    def _model(self, name: str) -> LearntModel:
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = LearntModel(name)
        return found

    async def _load(self) -> None:
        if self._ledger is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                records = await self._ledger.load_durations(self._origin, VERSION)
            for name, record in records.items():
                learnt = self._model(name)
                learnt.keep(_read(name, record).plus(learnt.kept))
        except Exception as exc:  # noqa: BLE001 - the ledger may be the user's own
            _log.warning("durations could not be loaded from the ledger: %s", _why(exc))

    async def _save(self, learnt: LearntModel) -> None:
        assert self._ledger is not None  # noqa: S101 - it is not called without one
        async with learnt.saving:
            if not learnt.ends:
                return
            # Otherwise it might load what is written here, and count it twice.
            await asyncio.wait([self.begin()], timeout=_PATIENCE)
            sending, ends = learnt.send()
            try:
                async with asyncio.timeout(_PATIENCE):
                    record = await self._ledger.add_durations(
                        self._origin, learnt.name, VERSION, lambda old: added(old, sending)
                    )
            except Exception as exc:  # noqa: BLE001 - the ledger may be the user's own
                learnt.not_sent(ends)
                _log.warning("durations could not be written to the ledger: %s", _why(exc))
            else:
                learnt.sent(_read(learnt.name, record))


def _read(model: str, record: bytes) -> Learnt:
    """Return what a record of the ledger holds; a damaged one holds nothing."""
    try:
        return Learnt.from_bytes(record)
    except ValueError as exc:
        _log.warning(
            "the durations of model %s in the ledger are ignored: %s", plain(model), exc
        )
        return Learnt()


def _expected(forecast: Forecast) -> Expected:
    return Expected(forecast.quantile(0.5), forecast.quantile(0.9))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"it did not answer within {_PATIENCE:.0f} seconds"
    return plain(str(error)) or type(error).__name__

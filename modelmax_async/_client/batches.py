"""The methods about many jobs, and about what the ledger still has open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from modelmax_async._client.engine import Engine
from modelmax_async._client.jobs import TIMEOUT
from modelmax_async._models import UNFINISHED, Job, LedgerEntry, Outcome, Result
from modelmax_async._polling import subscribers
from modelmax_async._validators import check_timeout


class BatchMethods:
    """The part of the client that is about many jobs."""

    _engine: Engine

    async def gather_results(
        self,
        jobs: Iterable[Job | str],
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
        return_exceptions: bool = False,
        on_outcome: subscribers.OnOutcome | None = None,
    ) -> list[Result]:
        """Wait for many jobs; a job that fails touches no other.

        Args:
            jobs: jobs or request ids; one that comes twice is fetched once.
            model: the model of bare request ids.
            timeout: seconds for all of them together; ``None``: no limit.
            return_exceptions: put exceptions in their places instead of raising.
            on_outcome: called with an `Outcome` as each job ends.

        Returns:
            The results, in the order given. Cancelled, it loses nothing that was paid for.

        Raises:
            GatherError: some failed; ``.outcomes`` has the others' results too.
        """
        limit = check_timeout(timeout)
        targets = [self._engine.job(job, model) for job in jobs]
        stream = subscribers.each_outcome(self._engine.poller, targets, limit)
        outcomes = await subscribers.gather(stream, targets, on_outcome)
        for outcome in outcomes:
            if outcome.result is not None:
                self._engine.records.delivered(outcome.job)
        if return_exceptions:
            return [o.result or o.error for o in outcomes]  # type: ignore[misc]  # as asyncio.gather's
        return subscribers.results_of(outcomes)

    def as_completed(
        self,
        jobs: Iterable[Job | str],
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
    ) -> AsyncGenerator[Outcome, None]:
        """Iterate over the `Outcome` of each job as it ends; a job given twice comes once.

        Args and errors are those of `gather_results`, but that each error stays in its outcome.
        """
        limit = check_timeout(timeout)
        targets = [self._engine.job(job, model) for job in jobs]
        delivered = self._engine.records.delivered
        return subscribers.each_outcome(self._engine.poller, targets, limit, delivered)

    async def unresolved(self) -> list[LedgerEntry]:
        """Return the jobs whose billed call has an unknown outcome, oldest first."""
        self._engine.tasks.bind()
        return await self._engine.tasks.run(self._engine.records.entries({"uncertain"}))

    async def pending(self) -> list[Job]:
        """Return the jobs without a stored result that have not failed, oldest first.

        Those that the server has acknowledged: by the answer to a submit, or to a poll.
        """
        self._engine.tasks.bind()
        found = await self._engine.tasks.run(self._engine.records.entries(UNFINISHED))
        return [entry.job for entry in found if entry.acknowledged]

"""The parts of one client: how they are connected, and how they are closed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence

from modelmax_async._api import schemas
from modelmax_async._api.paths import check_job, make_job
from modelmax_async._billing import leases
from modelmax_async._billing.leases import LeaseWatch
from modelmax_async._billing.records import Records
from modelmax_async._billing.settler import Settler
from modelmax_async._client.arguments import check_jobs, job_or_id
from modelmax_async._client.calls import Calls
from modelmax_async._client.options import check_hooks, check_ledger, check_poll, check_retry
from modelmax_async._client.saving import Saving
from modelmax_async._client.submits import Submits
from modelmax_async._client.upkeep import Upkeep
from modelmax_async._download import Downloads
from modelmax_async._errors import ConfigurationError
from modelmax_async._http import ClientOrTransport, HTTPClient, Timeout
from modelmax_async._models import Job
from modelmax_async._polling.learning import Learning
from modelmax_async._polling.policies import PollingPolicy
from modelmax_async._polling.poller import Poller
from modelmax_async._polling.visits import Parts
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff, RetryPolicy
from modelmax_async._runtime.tasks import GRACE, Life, Tasks, uncancelled
from modelmax_async._settings import Settings
from modelmax_async._validators import check_segment
from modelmax_async.events import Hook
from modelmax_async.ledger import Ledger

#: Seconds that closing gives billed calls if the client has no ``timeout``.
DRAIN = 60.0
#: How often closing is started again at most, if a program cancels all tasks of the loop.
_RESTARTS = 2


class Engine:
    """The parts of a client. Its arguments are those of `AsyncQueueClient`."""

    def __init__(
        self,
        settings: Settings,
        *,
        poll: PollingPolicy | None,
        retry: RetryPolicy | None,
        ledger: Ledger | None,
        timeout: Timeout,
        http_client: ClientOrTransport | None,
        hooks: Sequence[Hook],
    ) -> None:
        schemas.converter()  # compiled now, and not while the event loop is running
        poll = check_poll(poll)
        backoff = Backoff(check_retry(retry), random.random)
        ledger = check_ledger(ledger)
        self.settings = settings
        self.tasks = Tasks()
        self.hooks = Hooks(check_hooks(hooks))
        self.http = HTTPClient(settings, timeout, http_client, self.hooks)
        watch = LeaseWatch(leases.LEASE)
        self.records = Records(ledger, self.hooks, settings.origin, watch)
        self.settler = Settler(self.records, self.http, self.tasks, self.hooks)
        self.parts = parts = Parts(
            http=self.http,
            settler=self.settler,
            records=self.records,
            tasks=self.tasks,
            hooks=self.hooks,
            retry=backoff,
            refetch=settings.on_uncertain == "refetch",
        )
        self.calls = Calls(parts)
        self.submits = Submits(parts)
        self.upkeep = Upkeep(parts)
        self.learning = Learning(ledger, settings.origin, self.tasks)
        self.poller = Poller(parts, poll, self.learning, settings.max_in_flight)
        self.downloads = Downloads(self.http, self.tasks, self.hooks, settings, backoff)
        self.saving = Saving(self.downloads, parts)
        self._closing: asyncio.Task[None] | None = None

    def model(self, model: str | None) -> str:
        """Return the model to use, checked before any I/O."""
        name = model if model is not None else self.settings.model
        if name is None:
            raise ConfigurationError("no model: pass model= to the call or to the client")
        return check_segment("model", name)

    def target(self, job: Job | str, model: str | None) -> Job:
        """Return the job of an argument, checked before any I/O."""
        given = job_or_id(job)
        return check_job(
            given if isinstance(given, Job) else make_job(self.model(model), given)
        )

    def targets(self, jobs: Iterable[Job | str], model: str | None) -> list[Job]:
        """Return the jobs of a batch, checked before any I/O."""
        return [self.target(job, model) for job in check_jobs(jobs)]

    async def aclose(self) -> None:
        """Close once, in a task that no cancellation of the closer can shorten."""
        restarts = 0
        while True:
            if self._closing is None or self._closing.cancelled():
                if self.tasks.life is Life.OPEN:
                    self.tasks.bind()
                self._closing = self.tasks.spawn(self._close())
            closing = self._closing
            try:
                await uncancelled(closing)
            except asyncio.CancelledError:
                if restarts == _RESTARTS or not closing.cancelled():
                    raise
                restarts += 1
            else:
                return

    async def _close(self) -> None:
        """Close part by part. Each step is bounded: no ledger and no disk can hold it up."""
        self.tasks.close()
        self.poller.stop()
        await self.settler.drain(self.http.longest or DRAIN)
        self.poller.end_all()
        self.tasks.life = Life.CLOSED
        await self.downloads.aclose()
        await self.tasks.finish({self.tasks.spawn(self.learning.save())}, GRACE)
        await self.tasks.finish(self.tasks.others(), 0)
        await self.tasks.finish({self.tasks.spawn(self.http.aclose())}, GRACE)
        await self.tasks.finish({self.tasks.spawn(self.records.aclose())}, GRACE)

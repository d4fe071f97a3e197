"""The parts of one client, wired together, and their common life: bind, close."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Any, Literal

import attrs

from modelmax_async._api import schemas
from modelmax_async._api.paths import check_job, make_job
from modelmax_async._billing import heartbeat
from modelmax_async._billing.leases import LeaseWatch
from modelmax_async._billing.records import Records
from modelmax_async._billing.settler import Settler
from modelmax_async._client.calls import Calls
from modelmax_async._download import Downloads
from modelmax_async._errors import ConfigurationError
from modelmax_async._http import HTTPClient, Timeout, Transport
from modelmax_async._models import Job
from modelmax_async._polling.policies import DelayPolicy, PollPolicy
from modelmax_async._polling.poller import Poller
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff, RetryPolicy
from modelmax_async._runtime.tasks import GRACE, Life, Tasks, uncancelled
from modelmax_async._settings import ApiKey, read_settings
from modelmax_async._validators import check_segment
from modelmax_async.events import Hook
from modelmax_async.ledger import Ledger, MemoryLedger

#: Seconds that closing gives billed calls when they have no ``timeout`` of their own.
DRAIN = 60.0


@attrs.frozen(kw_only=True)
class Options:
    """The arguments of `modelmax_async.AsyncQueueClient`, the key apart."""

    base_url: str | None
    model: str | None
    poll: DelayPolicy | None
    retry: RetryPolicy | None
    ledger: Ledger | None
    on_uncertain: Literal["raise", "refetch"]
    max_in_flight: int
    timeout: Timeout
    http_client: HTTPClient | None
    hooks: Sequence[Hook]
    allow_insecure: bool


class Engine:
    """What a client is made of. The client's methods hand on to these parts."""

    def __init__(self, key: ApiKey | ConfigurationError, options: Options) -> None:
        self.settings = read_settings(
            api_key=key,
            base_url=options.base_url,
            model=options.model,
            on_uncertain=options.on_uncertain,
            max_in_flight=options.max_in_flight,
            allow_insecure=options.allow_insecure,
            environ=os.environ,
        )
        schemas.converter()  # compiled here, not in the middle of somebody's event loop
        poll = options.poll or PollPolicy()
        _check_policy(poll)
        backoff = Backoff(options.retry or RetryPolicy(), random.random)
        refetch = self.settings.on_uncertain == "refetch"
        self.tasks = Tasks()
        self.hooks = Hooks(options.hooks)
        ledger = options.ledger if options.ledger is not None else MemoryLedger()
        self.transport = Transport(self.settings, options.timeout, options.http_client)
        leases = LeaseWatch(heartbeat.LEASE)
        self.records = Records(ledger, self.hooks, self.settings.origin, leases)
        self.settler = Settler(self.records, self.transport, self.tasks, self.hooks)
        parts: dict[str, Any] = {
            "settler": self.settler,
            "records": self.records,
            "transport": self.transport,
            "tasks": self.tasks,
            "hooks": self.hooks,
            "refetch": refetch,
        }
        self.poller = Poller(
            **parts, poll=poll, retry=backoff, max_in_flight=self.settings.max_in_flight
        )
        self.calls = Calls(**parts, backoff=backoff)
        self.downloads = Downloads(
            self.transport, self.tasks, self.hooks, self.settings, backoff
        )
        self._closing: asyncio.Task[None] | None = None

    def model(self, model: str | None) -> str:
        """Return the model to use, checked before any I/O."""
        name = model if model is not None else self.settings.model
        if name is None:
            raise ConfigurationError("which model? Pass model=, to the call or to the client")
        return check_segment("model", name)

    def job(self, job: Job | str, model: str | None) -> Job:
        """Return the job of an id, after every check that precedes I/O."""
        found = job if isinstance(job, Job) else make_job(self.model(model), job)
        check_job(found)
        self.tasks.bind()
        return found

    async def aclose(self) -> None:
        """Close once, in a task that no cancellation of the closer can shorten.

        Whoever cancels all tasks of the loop cancels that one too: then it is started again.
        """
        tries = 3
        while True:
            if self._closing is None or self._closing.cancelled():
                if self.tasks.life is Life.OPEN:
                    self.tasks.bind()
                self._closing = self.tasks.spawn(self._close())
            closing = self._closing
            try:
                await uncancelled(closing)
            except asyncio.CancelledError:
                tries -= 1
                if not tries or not closing.cancelled():
                    raise
            else:
                return

    async def _close(self) -> None:
        """Every step is bounded: neither a ledger nor a disk that hangs can hold it up."""
        self.tasks.close()
        self.poller.stop()
        await self.settler.drain(self.transport.longest or DRAIN)
        self.poller.end_all()
        self.tasks.life = Life.CLOSED
        await self.downloads.aclose()
        await self.tasks.finish(self.tasks.others(), 0)
        await self.tasks.finish({self.tasks.spawn(self.transport.aclose())}, GRACE)
        await self.tasks.finish({self.tasks.spawn(self.records.ledger.aclose())}, GRACE)


def _check_policy(poll: DelayPolicy) -> None:
    """Ask a policy of the user's own once, before anybody waits by it."""
    try:
        usable = float(poll.delay(0, 0.0, 0.5)) >= 0
    except Exception as exc:
        raise ConfigurationError(f"poll does not work as a DelayPolicy: {exc}") from exc
    if not usable:
        raise ConfigurationError("poll answers with a delay that is no number of seconds")

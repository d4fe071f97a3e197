"""`AsyncQueueClient`: its arguments and its life; its methods stand beside this file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

from modelmax_async._client.batches import BatchMethods
from modelmax_async._client.engine import Engine, Options
from modelmax_async._client.files import FileMethods
from modelmax_async._client.jobs import JobMethods
from modelmax_async._http import HTTPClient, Timeout
from modelmax_async._polling.policies import DelayPolicy
from modelmax_async._runtime.retry import RetryPolicy
from modelmax_async._settings import read_key
from modelmax_async.events import Hook
from modelmax_async.ledger import Ledger


class AsyncQueueClient(JobMethods, BatchMethods, FileMethods):
    """A client of ModelMax's video queue that bills each finished job once.

    It starts on first use, belongs to one event loop, and is shared by all its coroutines.
    ``async with`` is not required; `aclose` is.

    Args:
        api_key: the key; ``MODELMAX_API_KEY`` by default.
        base_url: ``MODELMAX_API_BASE_URL``, else ``https://api.modelmax.io``.
        model: the model of submits and bare request ids that come without ``model=``.
        poll: the intervals between status calls.
        retry: the backoff after failures that cost nothing.
        ledger: where billed calls are recorded; a `MemoryLedger` dies with the process.
        on_uncertain: what to do about a billed call of unknown outcome: ``"raise"``, or
            ``"refetch"``, which may pay for a result twice.
        max_in_flight: HTTP requests at once, over all that wait.
        timeout: seconds for one HTTP request, or an ``httpx.Timeout``.
        http_client: an ``httpx.AsyncClient`` of your own, or a transport alone; it is never
            closed here. The README says which transports carry billed calls.
        hooks: callables that take one record each, see `modelmax_async.events`.
        allow_insecure: let ``http://`` carry the key to a host that is not this machine.

    Raises:
        ConfigurationError: for any of these that is unusable, before any I/O.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        model: str | None = None,
        poll: DelayPolicy | None = None,
        retry: RetryPolicy | None = None,
        ledger: Ledger | None = None,
        on_uncertain: Literal["raise", "refetch"] = "raise",
        max_in_flight: int = 32,
        timeout: Timeout = 30.0,
        http_client: HTTPClient | None = None,
        hooks: Sequence[Hook] = (),
        allow_insecure: bool = False,
    ) -> None:
        key, api_key = read_key(api_key, os.environ), None  # no traceback shows it from here
        self._engine = Engine(
            key,
            Options(
                base_url=base_url,
                model=model,
                poll=poll,
                retry=retry,
                ledger=ledger,
                on_uncertain=on_uncertain,
                max_in_flight=max_in_flight,
                timeout=timeout,
                http_client=http_client,
                hooks=hooks,
                allow_insecure=allow_insecure,
            ),
        )

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):  # shown in the traceback of a refused setting
            return "<AsyncQueueClient not set up>"
        state = self._engine.tasks.life.name.lower()
        origin = self._engine.settings.origin
        return f"<AsyncQueueClient {state}, {origin}, {self._engine.poller!r}>"

    async def aclose(self) -> None:
        """Stop polling, let billed calls end, close what was opened. Again: does nothing.

        Cancelling it does not shorten the drain, which is bounded by the client's
        ``timeout``; what does not end by then is recorded as uncertain.
        """
        await self._engine.aclose()

    async def __aenter__(self) -> Self:
        self._engine.tasks.bind()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

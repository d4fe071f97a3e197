"""`generate_many`: many requests submitted, waited for, fetched and saved, a few at once.

Each open request has a task that the client owns. A request is taken from the caller's iterable
only when there is room for it, and its room is free again once the caller has its outcome.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from pathlib import Path
from typing import Any

import attrs

from modelmax_async._arguments import forgotten, named
from modelmax_async._client.engine import Engine
from modelmax_async._client.pace import Pace
from modelmax_async._download import NameTemplate
from modelmax_async._errors import (
    AuthenticationError,
    ClientStateError,
    InsufficientBalanceError,
    fresh,
)
from modelmax_async._models import Failed, Job, Result, Succeeded, VideoRequest
from modelmax_async._polling.batch import Ended
from modelmax_async._polling.subscribers import wait_one
from modelmax_async._runtime.tasks import Tasks

Requests = Iterable[str | VideoRequest] | AsyncIterable[str | VideoRequest]
#: After one of these, no further request can succeed.
FINAL = (AuthenticationError, ClientStateError, InsufficientBalanceError)


class Crew:
    """The open requests of one batch, and the outcomes that the caller has not taken yet.

    Args:
        tasks: the client's tasks.
        work: takes one request to its outcome. It raises only what ends the batch.
        pace: is stopped as soon as no further request is to be submitted.
        requests: are taken from now on.
        most: the most requests that are open at once.
    """

    def __init__(
        self,
        tasks: Tasks,
        work: Callable[[VideoRequest], Awaitable[Ended]],
        pace: Pace,
        requests: Requests,
        most: int,
    ) -> None:
        self._tasks = tasks
        self._work = work
        self._pace = pace
        self._room = asyncio.Semaphore(most)
        self._open: set[asyncio.Task[None]] = set()
        self._ended: deque[Ended] = deque()
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self._feeding = self._spawn(self._feed(requests))

    async def next(self) -> Ended | None:
        """Return the next outcome, ``None`` after the last one.

        Raises:
            AuthenticationError, InsufficientBalanceError, ClientStateError: the batch cannot go
                on. What is open is left to be resumed.
            And whatever the iterable of requests raises, after the outcomes of those before.
        """
        while not self._ended:
            self._news.clear()
            if isinstance(self._error, FINAL) or not self._open:
                if self._error is not None:
                    raise fresh(self._error)
                return None
            await self._news.wait()
        self._room.release()
        return self._ended.popleft()

    def leave(self) -> None:
        """Take no more requests, and wait for none. What is submitted can be resumed."""
        self._pace.stop()
        for task in self._open:
            task.cancel()

    async def _feed(self, requests: Requests) -> None:
        source = aiter(requests) if isinstance(requests, AsyncIterable) else _each(requests)
        while True:
            await self._room.acquire()
            try:
                item = await anext(source)
            except StopAsyncIteration:
                return
            self._spawn(self._one(_request_of(item)))

    async def _one(self, request: VideoRequest) -> None:
        self._ended.append(await self._work(request))

    def _spawn(self, coro: Any) -> asyncio.Task[None]:
        task = self._tasks.spawn(coro)
        self._open.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._news.set()
        closed = ClientStateError("the client was closed while requests were open")
        error = closed if task.cancelled() else task.exception()
        if error is None or isinstance(self._error, FINAL):
            return
        self._error = error
        if isinstance(error, FINAL):
            self._pace.stop()
        self._feeding.cancel()


@attrs.frozen(kw_only=True)
class Work:
    """What is done with each request of a batch; the arguments are those of `generate_many`."""

    engine: Engine
    pace: Pace
    model: str | None
    directory: Path | None
    names: NameTemplate
    timeout: float | None

    async def __call__(self, request: VideoRequest) -> Ended:
        """Take one request to its outcome; raise only what ends the batch."""
        job: Job | None = None
        try:
            model = self.engine.model(request.model or self.model)
            job = await self.engine.submits.submit(request, model, self.pace)
            result = await wait_one(self.engine.poller, job, self.timeout, None)
            paths = await self._save(result)
        except FINAL:
            raise
        except Exception as exc:  # noqa: BLE001 - a failure of one request affects no other
            return Failed(job, _light(exc), request)
        return Succeeded(job, result, request, tuple(paths))

    async def _save(self, result: Result) -> list[Path]:
        if self.directory is None:
            return []
        return await self.engine.saving.save(result, self.directory, names=self.names)


def _light(error: Exception) -> Exception:
    """Return the error without the frames of its causes, which hold whole requests."""
    light = fresh(error)
    cause = light.__cause__
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__
    return light


async def each_outcome(
    tasks: Tasks, work: Work, requests: Requests, most: int
) -> AsyncGenerator[Ended, None]:
    """Yield the outcome of each request as it ends."""
    tasks.bind()
    crew = Crew(tasks, work, work.pace, requests, most)
    try:
        while (outcome := await crew.next()) is not None:
            yield outcome
            if outcome.error is None:  # taken, and looked at
                work.engine.records.delivered(outcome.job)
    finally:
        crew.leave()


async def _each(
    requests: Iterable[str | VideoRequest],
) -> AsyncIterator[str | VideoRequest]:
    for request in requests:
        yield request
        await asyncio.sleep(0)  # an iterable without an await must not block the loop


def _request_of(item: object) -> VideoRequest:
    if isinstance(item, VideoRequest):
        return item
    if isinstance(item, str):
        return VideoRequest(item)
    advice = forgotten(item)
    if isinstance(item, Mapping):
        advice = ": pass VideoRequest.from_dict(…) of it"
    raise ValueError(f"requests must be prompts or VideoRequest, got {named(item)}{advice}")


def check_requests(requests: object) -> None:
    """Refuse anything but an iterable of prompts, and the items of a list that are none.

    Raises:
        ValueError: says what to pass instead.
    """
    one = isinstance(requests, str | bytes | Mapping)
    if one or not isinstance(requests, Iterable | AsyncIterable):
        advice = ": pass a list of them" if one or isinstance(requests, VideoRequest) else ""
        advice = advice or forgotten(requests)
        raise ValueError(
            "requests must be an iterable or async iterable of prompts or VideoRequest, got "
            f"{named(requests)}{advice}"
        )
    if isinstance(requests, list | tuple):
        for item in requests:
            _request_of(item)

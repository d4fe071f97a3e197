"""`AsyncQueueClient`: the class that users hold."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from modelmax_async._api.endpoints import build_submit
from modelmax_async._client.engine import Engine
from modelmax_async._download import OnProgress
from modelmax_async._errors import ModelMaxError
from modelmax_async._http import ClientOrTransport, Timeout
from modelmax_async._models import (
    UNFINISHED,
    Job,
    LedgerEntry,
    Outcome,
    Result,
    StatusReport,
    Video,
    VideoParameters,
)
from modelmax_async._polling import batch, subscribers
from modelmax_async._polling.batch import OnOutcome
from modelmax_async._polling.forecast import Expected
from modelmax_async._polling.policies import PollingPolicy
from modelmax_async._polling.subscribers import OnStatus
from modelmax_async._runtime.retry import RetryPolicy
from modelmax_async._settings import read_key, read_settings
from modelmax_async._validators import check_prompt, check_segment, check_timeout
from modelmax_async.events import Hook
from modelmax_async.ledger import Ledger

#: Seconds that a wait takes at most by default.
TIMEOUT = 1800.0


class AsyncQueueClient:
    """A client of ModelMax's video queue that bills each finished job once.

    It starts on first use, belongs to one event loop, and is shared by all its coroutines.
    ``async with`` is not required; `aclose` is.

    Args:
        api_key: the API key; ``MODELMAX_API_KEY`` by default.
        base_url: ``MODELMAX_API_BASE_URL``, else ``https://api.modelmax.io``.
        model: the model of submits and bare request ids that come without ``model=``.
        poll: the intervals between status calls: ``AdaptivePolicy()`` by default, or a
            ``PollPolicy``, or a `PollingPolicy` of your own.
        retry: the backoff after failures that cost nothing; ``RetryPolicy()`` by default.
        ledger: where billed calls are recorded; by default a `MemoryLedger`, which is lost with
            the process.
        on_uncertain: what to do about a billed call whose outcome is uncertain: ``"raise"``, or
            ``"refetch"``, which may pay for a result twice.
        max_in_flight: how many HTTP requests are made at once, over all callers; 1 to 1024.
        timeout: seconds for one HTTP request, an ``httpx.Timeout``, or ``None`` for no limit.
        http_client: an ``httpx.AsyncClient`` of your own, or a transport alone; it is never
            closed by this client. The README says which transports carry billed calls.
        hooks: callables that receive one event record each, see `modelmax_async.events`.
        allow_insecure: allow ``http://`` to send the key to a host other than this machine.

    Raises:
        ConfigurationError: for an argument that cannot be used, before any I/O.
    """

    __module__ = "modelmax_async"

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        model: str | None = None,
        poll: PollingPolicy | None = None,
        retry: RetryPolicy | None = None,
        ledger: Ledger | None = None,
        on_uncertain: Literal["raise", "refetch"] = "raise",
        max_in_flight: int = 32,
        timeout: Timeout = 30.0,
        http_client: ClientOrTransport | None = None,
        hooks: Sequence[Hook] = (),
        allow_insecure: bool = False,
    ) -> None:
        key, api_key = read_key(api_key, os.environ), None  # no traceback shows it from here
        settings = read_settings(
            api_key=key,
            base_url=base_url,
            model=model,
            on_uncertain=on_uncertain,
            max_in_flight=max_in_flight,
            allow_insecure=allow_insecure,
            environ=os.environ,
        )
        self._engine = Engine(
            settings,
            poll=poll,
            retry=retry,
            ledger=ledger,
            timeout=timeout,
            http_client=http_client,
            hooks=hooks,
        )

    def __repr__(self) -> str:
        if not hasattr(self, "_engine"):  # shown in the traceback of a refused argument
            return "<AsyncQueueClient not set up>"
        state = self._engine.tasks.life.name.lower()
        origin = self._engine.settings.origin
        return f"<AsyncQueueClient {state}, {origin}, {self._engine.poller!r}>"

    async def submit(
        self,
        prompt: str,
        *,
        model: str | None = None,
        parameters: VideoParameters | None = None,
    ) -> Job:
        """Submit a prompt (API §1). A submit is not billed.

        Args:
            prompt: what to show; not empty.
            model: such as ``"veo-3"``; the client's ``model`` by default.
            parameters: further wishes, such as resolution and length.

        Returns:
            The job, recorded in the ledger: `pending` lists it after a crash.

        Raises:
            ValueError: for an empty prompt or an unusable model, before any I/O.
            InsufficientBalanceError: nothing was charged.
            SubmitUncertainError: a job may exist whose id was not received.
            APIError, TransportError: no job was created.
        """
        name = self._engine.model(model)
        call = build_submit(name, check_prompt(prompt), parameters)
        self._engine.tasks.bind()
        return await self._engine.tasks.run(self._engine.calls.submit(call, name))

    async def status(self, job: Job | str, *, model: str | None = None) -> StatusReport:
        """Make one free status call (API §2); a failure is retried a few times.

        Args:
            job: a job, or its request id.
            model: the model of a bare request id; the client's ``model`` by default.

        Raises:
            APIError, TransportError, InvalidResponseError: if it keeps failing.
        """
        target = self._engine.target(job, model)
        self._engine.tasks.bind()
        return await self._engine.tasks.run(self._engine.calls.status(target))

    async def result(
        self, job: Job | str, *, model: str | None = None, accept_second_charge: bool = False
    ) -> Result:
        """Fetch the result: the **billed** call (API §3), made once for each job.

        Args:
            job: a job that is COMPLETED, or its request id.
            model: the model of a bare request id; the client's ``model`` by default.
            accept_second_charge: fetch again if the outcome of an earlier call is uncertain, or
                its result unreadable or dropped; a stored result is served as ever.

        Raises:
            NotReadyError: it is still running; nothing was billed.
            JobFailedError: it FAILED and was not billed.
            ResultUncertainError: it may have been billed; see the error.
            ResultDroppedError: it was paid for, and the ledger no longer has its body.
            InvalidResponseError: it was paid for, and the response could not be understood.
            LedgerError: the ledger failed, so that no billed call was made.
            APIError, TransportError: it failed at no cost, also when retried.
        """
        target = self._engine.target(job, model)
        self._engine.tasks.bind()
        result = await self._engine.calls.result(target, accept=accept_second_charge)
        self._engine.records.delivered(target)
        return result

    async def wait_for(
        self,
        job: Job | str,
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
        on_status: OnStatus | None = None,
    ) -> Result:
        """Poll the status, then fetch the billed result once (API §2, §3).

        However many coroutines wait for a job, there is one stream of polls and one billed
        call. Cancelling one of them affects no other, and never a billed call under way.

        Args:
            job: a job, or its request id.
            model: the model of a bare request id; the client's ``model`` by default.
            timeout: seconds to wait at most; ``None``: no limit.
            on_status: called with a `StatusReport` at each change of status.

        Raises:
            JobTimeoutError: the job is not finished; wait again later.
            InconsistentStateError: COMPLETED on status, but not on result, for 60 seconds.
            And the errors of `result`, except `NotReadyError`.
        """
        limit = check_timeout(timeout)
        target = self._engine.target(job, model)
        result = await subscribers.wait_one(self._engine.poller, target, limit, on_status)
        self._engine.records.delivered(target)
        return result

    async def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        parameters: VideoParameters | None = None,
        timeout: float | None = TIMEOUT,
    ) -> Result:
        """Submit a prompt, then wait for the result.

        Args and errors are those of `submit` and `wait_for`. Each error that is raised after
        the submit has the job as its ``job``.
        """
        check_timeout(timeout)
        job = await self.submit(prompt, model=model, parameters=parameters)
        try:
            return await self.wait_for(job, timeout=timeout)
        except ModelMaxError as exc:
            exc.job = job
            raise

    async def gather_results(
        self,
        jobs: Iterable[Job | str],
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
        return_exceptions: bool = False,
        on_outcome: OnOutcome | None = None,
    ) -> list[Result]:
        """Wait for many jobs; a job that fails affects no other.

        Args:
            jobs: jobs or request ids; one that is given twice is fetched once.
            model: the model of bare request ids; the client's ``model`` by default.
            timeout: seconds for all of them together; ``None``: no limit.
            return_exceptions: return exceptions in their places instead of raising.
            on_outcome: called with an `Outcome` as each job ends.

        Returns:
            The results, in the order given. If it is cancelled, no paid result is lost.

        Raises:
            GatherError: some jobs failed; ``.outcomes`` has the results of the others too.
        """
        limit = check_timeout(timeout)
        targets = [self._engine.target(job, model) for job in jobs]
        self._engine.tasks.bind()
        stream = batch.each_outcome(self._engine.poller, targets, limit)
        outcomes = await batch.gather(stream, targets, on_outcome)
        for target, outcome in zip(targets, outcomes, strict=True):
            if outcome.result is not None:
                self._engine.records.delivered(target)
        if return_exceptions:
            return [o.result or o.error for o in outcomes]  # type: ignore[misc]  # as asyncio.gather's
        return batch.results_of(outcomes)

    def as_completed(
        self,
        jobs: Iterable[Job | str],
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
    ) -> AsyncGenerator[Outcome, None]:
        """Iterate over the `Outcome` of each job as it ends; a job given twice is yielded once.

        Args and errors are those of `gather_results`, but each error stays in its outcome.
        """
        limit = check_timeout(timeout)
        targets = [self._engine.target(job, model) for job in jobs]
        self._engine.tasks.bind()
        delivered = self._engine.records.delivered
        return batch.each_outcome(self._engine.poller, targets, limit, delivered)

    def watch(
        self, job: Job | str, *, model: str | None = None
    ) -> AsyncGenerator[StatusReport, None]:
        """Iterate over the changes of a job's status (API §2), to a terminal one; free.

        Args:
            job: a job, or its request id.
            model: the model of a bare request id; the client's ``model`` by default.
        """
        target = self._engine.target(job, model)
        self._engine.tasks.bind()
        return subscribers.watch(self._engine.poller, target)

    def notify(self, job: Job | str) -> None:
        """Poll this job now, because a webhook or message of yours says that it has changed.

        Call it on the client's event loop. If no coroutine waits for the job, it does nothing.

        Args:
            job: a job, or its request id.
        """
        self._engine.tasks.bind()
        request_id = job.request_id if isinstance(job, Job) else job
        key = self._engine.records.key_of(check_segment("request id", request_id))
        self._engine.poller.notify(key)

    def expected(self, job: Job | str, *, model: str | None = None) -> Expected | None:
        """Return how many more seconds a job is expected to take: for a progress bar.

        The client learns how long the jobs of each model take from every poll, whatever its
        policy. The ledger keeps it if it can, and adds up what several clients learn. Call
        this method on the client's event loop; it does no I/O.

        Args:
            job: a job that a coroutine of this client waits for, or one that `submit` returned.
            model: the model of a bare request id; the client's ``model`` by default.

        Returns:
            The expected seconds from now, given the job's age and its last known status;
            ``None`` before a few jobs of the model have ended, for an id whose age is unknown,
            and for a job that has ended as far as this client knows.
        """
        target = self._engine.target(job, model)
        self._engine.tasks.bind()
        return self._engine.poller.expected(target)

    async def download(
        self,
        result: Result,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        on_progress: OnProgress | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Save every video of a result (API §4), whole or not at all. Nothing is billed.

        A video is written into a ``.part`` file in the directory, checked, and renamed when it
        is complete and on the disk. An interrupted transfer is resumed by the next call if the
        server allows it, and started over otherwise.

        A complete file is taken for the video that has its name, so use one template in one
        directory. A key, id or model appears in a name with at most 40 characters; each run of
        characters other than ASCII letters, digits, ``-`` and ``_`` becomes one ``_``, as does
        a ``-`` in a model. 8 digits of its SHA-256 follow a key that loses letters by that. In
        a template without ``{digest}``, 16 digits follow each key or id that is not a plain
        lower-case word, and an id in place of a key; jobs with the same key share a file.
        Without ``{index}``, the names of the videos after the first end in ``.1``, ``.2``, ….

        Args:
            result: a result of this client.
            directory: where to save the videos; it is made if it is missing.
            name: a template of the file names; ``None`` is
                ``"{key}-{digest}-{index}.{suffix}"``. ``{key}`` is the key of the submit, or
                else the request id, and ``{digest}`` 8 hexadecimal digits of the id's SHA-256;
                the other fields are ``{id}``, ``{index}`` (or ``{index:03}``) and ``{model}``.
                A template must contain ``{key}`` or ``{id}``, so that no two jobs share a file.
            on_progress: called on the event loop with the bytes received and the bytes expected
                of all videos together; ``None`` until every length is known.
            overwrite: fetch complete files again.

        Returns:
            The paths, in the order of ``result.videos``; the suffix is that of the container.

        Raises:
            DownloadError: it says where the ``.part`` file is and what to do. The other videos
                are saved all the same.
            ValueError: for a ``name`` that is not a valid template, or an ``on_progress`` that
                would have to be awaited.
        """
        self._engine.tasks.bind()
        return await self._engine.downloads.save(
            result, Path(directory), on_progress, overwrite=overwrite, name=name, key=None
        )

    def stream(self, video: Video) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a video (API §4) as an async iterator of its bytes.

        The transfer is stopped when the context is left. While it is open, it counts as one of
        the downloads that the client makes at once: half of ``max_in_flight``, or one in
        addition to the calls if that is 1.

        Args:
            video: one of ``Result.videos``.

        Raises:
            DownloadError: on entering, or from the iterator, if the video was not received
                completely.
        """
        self._engine.tasks.bind()
        return self._engine.downloads.stream(video)

    async def unresolved(self) -> list[LedgerEntry]:
        """Return the jobs whose billed call has an uncertain outcome, oldest first."""
        self._engine.tasks.bind()
        return await self._engine.tasks.run(self._engine.records.entries({"uncertain"}))

    async def pending(self) -> list[Job]:
        """Return the jobs with neither a stored result nor a failure, oldest first.

        Only those that the server has acknowledged: by its response to a submit, or to a poll.
        """
        self._engine.tasks.bind()
        found = await self._engine.tasks.run(self._engine.records.entries(UNFINISHED))
        return [entry.job for entry in found if entry.acknowledged]

    async def aclose(self) -> None:
        """Stop polling, let billed calls end, and close what was opened.

        Cancelling it does not shorten the wait for billed calls, which is bounded by the
        client's ``timeout``; a call that does not end by then is recorded as uncertain. Called
        again, it does nothing.
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

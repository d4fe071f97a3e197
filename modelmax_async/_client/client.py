"""`AsyncQueueClient`: the class that users hold."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, overload

from modelmax_async._api_key import read_key
from modelmax_async._arguments import check_flag, check_optional_callback, check_path
from modelmax_async._client.arguments import (
    check_max_bytes,
    check_result,
    check_video,
    job_or_id,
)
from modelmax_async._client.engine import Engine
from modelmax_async._client.generation import Requests, Work, check_requests, each_outcome
from modelmax_async._client.pace import Pace
from modelmax_async._client.usage import usage_of
from modelmax_async._download import MAX_BYTES, OnProgress, VideoStream, read_template
from modelmax_async._errors import ModelMaxError
from modelmax_async._http import ClientOrTransport, Timeout
from modelmax_async._models import (
    Failed,
    Job,
    LedgerEntry,
    LedgerUsage,
    ResourceLimits,
    Result,
    StatusReport,
    Succeeded,
    Video,
    VideoParameters,
    VideoRequest,
)
from modelmax_async._polling import batch, subscribers
from modelmax_async._polling.batch import OnOutcome
from modelmax_async._polling.forecast import Expected
from modelmax_async._polling.policies import PollingPolicy
from modelmax_async._polling.subscribers import OnStatus
from modelmax_async._runtime.logs import log_to_stderr
from modelmax_async._runtime.retry import RetryPolicy
from modelmax_async._settings import read_settings
from modelmax_async._validators import (
    check_prompt,
    check_timeout,
    is_integer,
    is_number,
)
from modelmax_async.events import Hook
from modelmax_async.ledger import Ledger

#: Seconds that a wait takes at most by default.
TIMEOUT = 1800.0
#: The most jobs that `AsyncQueueClient.generate_many` can have open at once.
MOST_JOBS = 1_000_000


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
        hooks: plain functions that receive one event record each, see `modelmax_async.events`.
            The logger ``modelmax_async`` needs none; ``MODELMAX_LOG=debug`` shows its lines.
        allow_insecure: allow ``http://`` to send the key to a host other than this machine.
        limits: the bounds on what a server can make this client do;
            ``ResourceLimits()`` by default.

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
        limits: ResourceLimits | None = None,
    ) -> None:
        log_to_stderr(os.environ.get("MODELMAX_LOG", ""))
        key, api_key = read_key(api_key, os.environ), None  # no traceback shows it from here
        settings = read_settings(
            api_key=key,
            base_url=base_url,
            model=model,
            on_uncertain=on_uncertain,
            max_in_flight=max_in_flight,
            allow_insecure=allow_insecure,
            environ=os.environ,
            limits=limits,
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
        key: str | None = None,
    ) -> Job:
        """Submit a prompt (API §1). A submit is not billed.

        With a ``key``, it is idempotent: the ledger records which job the key belongs to, and
        the same key with the same request returns that job without a call, after a restart and
        in every process that shares the ledger. A submit whose outcome is unknown is sent again
        by the next call with its key: the first job, if there is one, is never fetched.

        Args:
            prompt: what to show; not empty.
            model: such as ``"veo-3"``; the client's ``model`` by default.
            parameters: further wishes, such as resolution and length.
            key: a name of yours for this request, such as ``"row-17"``.

        Returns:
            The job, recorded in the ledger: `pending` lists it after a crash.

        Raises:
            ValueError: for an empty prompt, an unusable model or key, or an image that cannot
                be read, before any request.
            KeyConflictError: the key belongs to another request; nothing was submitted.
            InsufficientBalanceError: nothing was charged.
            SubmitUncertainError: a job may exist whose id was not received.
            LedgerError: with a key only: the ledger failed, and no job was returned.
            APIError, TransportError: no job was created.
        """
        name = self._engine.model(model)
        request = VideoRequest(check_prompt(prompt), name, parameters, key)
        self._engine.tasks.bind()
        return await self._engine.submits.submit(request, name)

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
            JobError: it was given up with `forget` before it was billed.
            ResultUncertainError: it may have been billed; see the error.
            ResultDroppedError: it was paid for, and the ledger no longer has its body.
            InvalidResponseError: it was paid for, and the response could not be understood.
            LedgerError: the ledger failed, so that no billed call was made.
            APIError, TransportError: it failed at no cost, also when retried.
        """
        check_flag("accept_second_charge", accept_second_charge)
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
            on_status: a plain function, called with a `StatusReport` at each change of status.

        Raises:
            JobTimeoutError: the job is not finished; wait again later.
            InconsistentStateError: COMPLETED on status, but not on result, for 60 seconds.
            And the errors of `result`, except `NotReadyError`.
        """
        limit = check_timeout(timeout)
        check_optional_callback("on_status", on_status)
        target = self._engine.target(job, model)
        self._engine.tasks.bind()
        result = await subscribers.wait_one(self._engine.poller, target, limit, on_status)
        self._engine.records.delivered(target)
        return result

    async def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        parameters: VideoParameters | None = None,
        key: str | None = None,
        timeout: float | None = TIMEOUT,
        on_status: OnStatus | None = None,
    ) -> Result:
        """Submit a prompt, then wait for the result.

        Args and errors are those of `submit` and `wait_for`. Each error that is raised after
        the submit has the job as its ``job``.
        """
        check_timeout(timeout)
        check_optional_callback("on_status", on_status)
        job = await self.submit(prompt, model=model, parameters=parameters, key=key)
        try:
            return await self.wait_for(job, timeout=timeout, on_status=on_status)
        except ModelMaxError as exc:
            exc.job = job
            raise

    @overload
    async def gather_results(
        self,
        jobs: Iterable[Job | str],
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
        return_exceptions: Literal[False] = False,
        on_outcome: OnOutcome | None = None,
    ) -> list[Result]: ...

    @overload
    async def gather_results(
        self,
        jobs: Iterable[Job | str],
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
        return_exceptions: bool,
        on_outcome: OnOutcome | None = None,
    ) -> list[Result | Exception]: ...

    async def gather_results(
        self,
        jobs: Iterable[Job | str],
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
        return_exceptions: bool = False,
        on_outcome: OnOutcome | None = None,
    ) -> list[Result] | list[Result | Exception]:
        """Wait for many jobs; a job that fails affects no other.

        Args:
            jobs: jobs or request ids; one that is given twice is fetched once.
            model: the model of bare request ids; the client's ``model`` by default.
            timeout: seconds for all of them together; ``None``: no limit.
            return_exceptions: return exceptions in their places instead of raising.
            on_outcome: a plain function, called with a `Succeeded` or `Failed` as each job
                ends.

        Returns:
            The results, in the order given. If it is cancelled, no paid result is lost.

        Raises:
            GatherError: some jobs failed; ``.outcomes`` has the results of the others too.
        """
        limit = check_timeout(timeout)
        check_optional_callback("on_outcome", on_outcome)
        targets = self._engine.targets(jobs, model)
        self._engine.tasks.bind()
        stream = batch.each_outcome(self._engine.poller, targets, limit)
        outcomes = await batch.gather(stream, targets, on_outcome)
        for target, outcome in zip(targets, outcomes, strict=True):
            if outcome.error is None:
                self._engine.records.delivered(target)
        if return_exceptions:
            return [o.result if o.error is None else o.error for o in outcomes]
        return batch.results_of(outcomes)

    def as_completed(
        self,
        jobs: Iterable[Job | str],
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
    ) -> AsyncGenerator[Succeeded | Failed, None]:
        """Iterate over the jobs as they end, each as a `Succeeded` or a `Failed`.

        A job that is given twice is yielded once. Args and errors are those of
        `gather_results`, but each error stays in its outcome.
        """
        limit = check_timeout(timeout)
        targets = self._engine.targets(jobs, model)
        self._engine.tasks.bind()
        delivered = self._engine.records.delivered
        return batch.each_outcome(self._engine.poller, targets, limit, delivered)

    def generate_many(
        self,
        requests: Requests,
        *,
        model: str | None = None,
        max_jobs: int = 100,
        directory: str | os.PathLike[str] | None = None,
        name: str | None = None,
        timeout: float | None = TIMEOUT,
    ) -> AsyncGenerator[Succeeded | Failed, None]:
        """Submit many requests, wait for their jobs, fetch the results, and save the videos.

        Requests are taken from the iterable only as jobs end, so that an endless one works. A
        request with a ``key`` survives a crash: run the same batch again with the same ledger,
        and it goes on where it was. It neither submits nor pays twice for such a request. After
        a crash, the jobs of requests without a key are found by `pending` instead.

        Args:
            requests: an iterable or async iterable of prompts or `VideoRequest`.
            model: the model of requests that name none; the client's ``model`` by default.
            max_jobs: how many jobs are open at once, from 1 to 1,000,000.
            directory: where to save the videos as `download` does, each of at most 4 GiB,
                before the outcome is yielded; by default they are not saved.
            name: the template of file names, see `download`.
            timeout: seconds to wait for each job at most; ``None``: no limit.

        Yields:
            A `Succeeded` or a `Failed` for each request as it ends, with ``request`` and
            ``paths``; a failure affects no other request. A 429 slows the submits down, and
            drops none. If you leave the iterator (at once with ``contextlib.aclosing``), it
            submits nothing further, and what is submitted is not lost.

        Raises:
            InsufficientBalanceError, AuthenticationError: no further request can succeed. What
                is open is left to be resumed.
            ValueError: for an unusable argument, before any I/O.
        """
        if not is_integer(max_jobs, 1, MOST_JOBS):
            raise ValueError(
                f"max_jobs must be an integer from 1 to {MOST_JOBS}, got {max_jobs!r}"
            )
        work = Work(
            engine=self._engine,
            pace=Pace(self._engine.tasks, self._engine.parts.retry),
            model=None if model is None else self._engine.model(model),
            directory=None if directory is None else Path(check_path("directory", directory)),
            names=read_template(name),
            timeout=check_timeout(timeout),
        )
        check_requests(requests)
        self._engine.tasks.bind()
        return each_outcome(self._engine.tasks, work, requests, max_jobs)

    def watch(
        self, job: Job | str, *, model: str | None = None
    ) -> AsyncGenerator[StatusReport, None]:
        """Iterate over the changes of a job's status (API §2), to a terminal one; free.

        While it is not advanced, the iterator keeps the latest eight changes.

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
        self._engine.poller.notify(self._engine.records.key_of(_id_of(job)))

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
        max_bytes: int = MAX_BYTES,
    ) -> list[Path]:
        """Save every video of a result (API §4), whole or not at all. Nothing is billed.

        A video is written into a ``.part`` file in the directory, checked, and renamed when it
        is complete and on the disk. An interrupted transfer is resumed by the next call if the
        server allows it, and started over otherwise. At least 64 MiB of the disk, or a
        twentieth of a small one, stay free.

        Links are not followed, and files of users other than you, the superuser and the owner
        of the directory are not used: they could be another video, or be changed later.

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
            on_progress: a plain function, called on the event loop with the bytes received and
                the bytes expected of all videos together; ``None`` until every length is known.
            overwrite: fetch complete files again, and replace links and other users' files.
            max_bytes: the most bytes of each video, 4 GiB by default. A larger one is refused;
                a call with a larger bound resumes it, if the server allows that.

        Returns:
            The paths, in the order of ``result.videos``; the suffix is that of the container.

        Raises:
            DownloadError: it says where the ``.part`` file is and what to do. The other videos
                are saved all the same.
            ValueError: for a ``name`` that is not a valid template, an ``on_progress`` that
                would have to be awaited, or a ``max_bytes`` that is not a positive integer.
        """
        check_result(result)
        target = Path(check_path("directory", directory))
        names = read_template(name)
        check_optional_callback("on_progress", on_progress)
        most = check_max_bytes(max_bytes)
        self._engine.tasks.bind()
        return await self._engine.saving.save(
            result,
            target,
            on_progress,
            overwrite=overwrite,
            max_bytes=most,
            names=names,
        )

    def stream(self, video: Video) -> AbstractAsyncContextManager[VideoStream]:
        """Open a video (API §4) as an async iterator of its bytes, with length and type.

        The transfer is stopped when the context is left. While it is open, it counts as one of
        the downloads that the client makes at once: half of ``max_in_flight``, or one in
        addition to the calls if that is 1. Its size is not bounded. The time that the reader
        takes does not count for the least rate of ``limits``.

        Args:
            video: one of ``Result.videos``.

        Returns:
            A context manager whose value is the open `VideoStream`.

        Raises:
            DownloadError: on entering, or from the iterator, if the video was not received
                completely.
        """
        check_video(video)
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
        return await self._engine.tasks.run(self._engine.upkeep.pending())

    async def stored(self, *, unsaved: bool = False) -> list[Job]:
        """Return the jobs whose paid result is in the ledger, oldest first.

        Args:
            unsaved: only those whose videos `download` has not saved, and that `mark_saved` has
                not marked: what to download after a restart. `wait_for` returns each result
                without a call.
        """
        self._engine.tasks.bind()
        return await self._engine.tasks.run(self._engine.upkeep.stored(unsaved=unsaved))

    async def usage(self) -> LedgerUsage:
        """Return the usage added up over the paid results in the ledger; no call is made.

        10,000 results take one or two seconds. The event loop stays free: the responses are
        parsed in a thread, a few at a time.

        Returns:
            Results, videos and seconds, in total and by model, and how many paid or perhaps
            paid jobs they do not contain.

        Raises:
            LedgerError: the ledger failed.
        """
        self._engine.tasks.bind()
        return await self._engine.tasks.run(usage_of(self._engine.records))

    async def mark_saved(self, job: Job | str) -> None:
        """Record that the videos of a stored result are saved: for those who use `stream`.

        Args:
            job: a job, or its request id.

        Raises:
            ValueError: the ledger has no result of this job.
        """
        request_id = _id_of(job)
        self._engine.tasks.bind()
        await self._engine.tasks.run(self._engine.upkeep.mark_saved(request_id))

    async def forget(self, job: Job | str) -> None:
        """Take a job off `pending` or `unresolved`, for good.

        The job is abandoned: it is on no list, and neither this client nor another one with
        the ledger fetches it without ``accept_second_charge=True``, even if it waits for it
        already. If the job was never billed, its submit key is free again.

        Args:
            job: a job, or its request id; one that the ledger does not know is ignored.

        Raises:
            ValueError: it is paid for, or being fetched right now; nothing was changed.
        """
        request_id = _id_of(job)
        self._engine.tasks.bind()
        await self._engine.tasks.run(self._engine.upkeep.forget(request_id))

    async def prune(self, older_than: timedelta) -> int:
        """Drop the stored results that were saved long ago, so that the ledger stays small.

        That they were paid for stays recorded: waiting for such a job raises
        `ResultDroppedError`, and it is never billed again without your consent.

        Args:
            older_than: how long ago the videos must have been saved at least.

        Returns:
            How many results were dropped.
        """
        if not isinstance(older_than, timedelta) or older_than < timedelta(0):
            advice = f": pass timedelta(days={older_than})" if is_number(older_than) else ""
            raise ValueError(
                f"older_than must be a timedelta of at least 0, got {older_than!r}{advice}"
            )
        self._engine.tasks.bind()
        return await self._engine.tasks.run(
            self._engine.upkeep.prune(older_than.total_seconds())
        )

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


def _id_of(job: Job | str) -> str:
    """Return the request id of an argument that needs no model, checked before any I/O."""
    given = job_or_id(job)
    return given.request_id if isinstance(given, Job) else given

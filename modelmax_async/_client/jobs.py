"""The methods about one job: submit it, ask for it, wait for it, have it billed once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from modelmax_async._api.endpoints import build_submit
from modelmax_async._api.paths import make_job
from modelmax_async._client.engine import Engine
from modelmax_async._errors import ModelMaxError
from modelmax_async._models import Job, Result, StatusReport, VideoParameters
from modelmax_async._polling import subscribers
from modelmax_async._validators import check_prompt, check_segment, check_timeout

#: Seconds that a wait takes at most, unless told otherwise.
TIMEOUT = 1800.0


class JobMethods:
    """The part of the client that is about one job."""

    _engine: Engine

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
            parameters: what else to ask for.

        Returns:
            The job, recorded in the ledger: `pending` lists it after a crash.

        Raises:
            ValueError: for an empty prompt or an unusable model, before any I/O.
            InsufficientBalanceError: nothing was charged.
            SubmitUncertainError: a job may exist whose id never arrived.
            APIError, TransportError: no job was created.
        """
        name = self._engine.model(model)
        call = build_submit(name, check_prompt(prompt), parameters)
        self._engine.tasks.bind()
        return await self._engine.tasks.run(self._engine.calls.submit(call, name))

    async def status(self, job: Job | str, *, model: str | None = None) -> StatusReport:
        """Make one free status call (API §2); a failure is tried again a few times.

        Raises:
            APIError, TransportError, InvalidResponseError: when it keeps failing.
        """
        target = self._engine.job(job, model)
        return await self._engine.tasks.run(self._engine.calls.status(target))

    async def result(
        self, job: Job | str, *, model: str | None = None, accept_second_charge: bool = False
    ) -> Result:
        """Fetch the result: the **billed** call (API §3), made once for each job.

        Args:
            job: a job that is COMPLETED, or its request id.
            model: the model of a bare request id.
            accept_second_charge: fetch again where the outcome of an earlier call is
                unknown or unreadable; a result that is there is served as ever.

        Raises:
            NotReadyError: it still runs; nothing was billed.
            JobFailedError: it FAILED and was not billed.
            ResultUncertainError: it may have been billed; see the error.
            InvalidResponseError: it was paid for, and the answer is not understood.
            LedgerError: the ledger failed, so that no billed call was made.
            APIError, TransportError: it failed at no cost, also when tried again.
        """
        target = self._engine.job(job, model)
        result = await self._engine.calls.result(target, accept=accept_second_charge)
        self._engine.records.delivered(target)
        return result

    async def wait_for(
        self,
        job: Job | str,
        *,
        model: str | None = None,
        timeout: float | None = TIMEOUT,
        on_status: subscribers.OnStatus | None = None,
    ) -> Result:
        """Poll the status, then fetch the billed result once (API §2, §3).

        However many coroutines wait for a job, there is one stream of polls and one billed
        call. Cancelling one of them touches no other, and never a call under way.

        Args:
            job: a job, or its request id.
            model: the model of a bare request id.
            timeout: seconds to wait at most; ``None``: no limit.
            on_status: called with a `StatusReport` at each change of status.

        Raises:
            JobTimeoutError: the job goes on; wait again later.
            InconsistentStateError: COMPLETED on status, but not on result, for 60 seconds.
            And what `result` raises, `NotReadyError` apart.
        """
        limit = check_timeout(timeout)
        target = self._engine.job(job, model)
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
        """Submit, then wait: the errors of `submit` and `wait_for`, each with its ``job``."""
        check_timeout(timeout)
        job = await self.submit(prompt, model=model, parameters=parameters)
        try:
            return await self.wait_for(job, timeout=timeout)
        except ModelMaxError as exc:
            exc.job = job
            raise

    def watch(
        self, job: Job | str, *, model: str | None = None
    ) -> AsyncGenerator[StatusReport, None]:
        """Iterate over the changes of a job's status (API §2), to the terminal one; free."""
        return subscribers.watch(self._engine.poller, self._engine.job(job, model))

    def notify(self, job: Job | str) -> None:
        """Poll this job now, because a webhook or message of yours says that it moved.

        Call it on the client's event loop. Without anybody who waits, it does nothing.
        """
        self._engine.tasks.bind()
        request_id = (
            job.request_id if isinstance(job, Job) else check_segment("request id", job)
        )
        self._engine.poller.notify(self._engine.records.key(make_job("-", request_id)))

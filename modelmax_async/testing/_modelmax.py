"""The local ModelMax of a test: an emulator that makes clients and checks its bills."""

from __future__ import annotations

from typing import Any

from modelmax_async._client import AsyncQueueClient
from modelmax_async._models import Job, Result
from modelmax_async._polling.policies import PollPolicy
from modelmax_async._runtime.retry import RetryPolicy
from modelmax_async.emulator import Emulator

_KEY = "sk-emulator"
_ORIGIN = "http://127.0.0.1"

#: The first poll comes at once, and a long wait takes few polls.
_POLL = PollPolicy(initial=0.01, factor=1.5, maximum=10.0, jitter=0.0)
_RETRY = RetryPolicy(initial=0.01)


class ModelMax(Emulator):
    """A local ModelMax for tests: an `Emulator` that makes clients and checks what it billed.

    ``script`` says how the next jobs go, and ``fault`` plans a fault; both are the emulator's.
    The arguments are those of `Emulator`.
    """

    def client(self, **options: Any) -> AsyncQueueClient:
        """Return a client of this ModelMax, without a socket; close it with `aclose`.

        By default it has the model ``"veo-3"`` and a `MemoryLedger`, and its first polls and
        retries come after hundredths of a second.

        Args:
            options: arguments of `AsyncQueueClient`, instead of the defaults here.
        """
        defaults: dict[str, Any] = {
            "api_key": self._account.key or _KEY,
            "base_url": _ORIGIN + self._prefix,
            "http_client": self.transport(),
            "model": "veo-3",
            "poll": _POLL,
            "retry": _RETRY,
        }
        return AsyncQueueClient(**(defaults | options))

    def assert_billed_once(self, *jobs: Job | Result | str) -> None:
        """Check that each of these jobs was billed exactly once.

        Args:
            jobs: jobs, results or request ids; ``*modelmax.jobs`` are all the jobs.

        Raises:
            AssertionError: names the first job for which this is not so, or says that no job
                was given.
        """
        __tracebackhide__ = True
        self._check_bills(jobs, 1, "must be billed once")

    def assert_not_billed(self, *jobs: Job | Result | str) -> None:
        """Check that none of these jobs was billed.

        Args:
            jobs: jobs, results or request ids; ``*modelmax.jobs`` are all the jobs.

        Raises:
            AssertionError: names the first job that was billed, or says that no job was given.
        """
        __tracebackhide__ = True
        self._check_bills(jobs, 0, "must not be billed")

    def _check_bills(
        self, jobs: tuple[Job | Result | str, ...], expected: int, rule: str
    ) -> None:
        __tracebackhide__ = True
        if not jobs:
            raise AssertionError(f"a job {rule}, but no job was given")
        for job in jobs:
            request_id = job if isinstance(job, str) else job.request_id
            if request_id not in self.jobs:
                raise AssertionError(
                    f"job {request_id} {rule}, but this ModelMax has no such job; "
                    f"it has {len(self.jobs)} jobs"
                )
            billed = self.billed.get(request_id, 0)
            if billed != expected:
                raise AssertionError(
                    f"job {request_id} {rule}, but {billed} of its "
                    f"{self.result_calls.get(request_id, 0)} result calls were billed"
                )

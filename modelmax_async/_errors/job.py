"""Errors about one job, and about several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from modelmax_async._errors.base import ModelMaxError
from modelmax_async._errors.sentences import sentence

if TYPE_CHECKING:
    from modelmax_async._models import Failed, Job, Phase, Status, Succeeded


class JobError(ModelMaxError):
    """An error about one job.

    Attributes:
        job: the job.
        last_status: its last known status, ``None`` if none is known.
    """

    def __init__(
        self, message: str, *, job: Job, last_status: Status | str | None = None
    ) -> None:
        super().__init__(f"job {job.request_id} ({job.model}): {message}", job=job)
        self.job: Job = job
        self.last_status = last_status


class JobFailedError(JobError):
    """The job FAILED. It was not billed.

    Attributes:
        error: the server's text.
    """

    def __init__(
        self, error: str, *, job: Job, last_status: Status | str | None = "FAILED"
    ) -> None:
        super().__init__(
            f"failed and was not billed: {error or '(no reason given)'}",
            job=job,
            last_status=last_status,
        )
        self.error = error


class JobTimeoutError(JobError, TimeoutError):
    """No result within ``timeout``. The job goes on, as far as the server says: wait again.

    If the latest status calls failed, the last error is its cause.
    """


class NotReadyError(JobError):
    """The result was requested before the job was COMPLETED. Nothing was billed."""


class InconsistentStateError(JobError):
    """The status endpoint says COMPLETED, the result endpoint does not. Nothing was billed."""


class ResultDroppedError(JobError):
    """The result was paid for and delivered, but its body is no longer in the ledger.

    It is not fetched again without your explicit consent, because that may charge you again.
    """

    def __init__(self, *, job: Job, last_status: Status | str | None = None) -> None:
        super().__init__(
            "the result was paid for and delivered, but its body is no longer in the ledger. "
            "result(job, accept_second_charge=True) fetches it again and may charge you again",
            job=job,
            last_status=last_status,
        )


class ResultUncertainError(JobError):
    """The outcome of the billed call is uncertain.

    The call is not repeated without your explicit consent.

    Attributes:
        phase: ``"sent"``, or ``"answered"`` once bytes of the response had arrived.
        since: since when it is uncertain, in seconds since the epoch.
        attempt: the id of the uncertain call, ``None`` if the job was given up.
    """

    def __init__(
        self,
        cause: str,
        *,
        job: Job,
        phase: Phase,
        since: float,
        attempt: str | None = None,
        last_status: Status | str | None = None,
    ) -> None:
        super().__init__(
            f"the outcome of the billed call is uncertain ({phase}): {sentence(cause)} You may "
            "have been charged. Check the account's usage; "
            "result(job, accept_second_charge=True) fetches the result again and may charge "
            "you again",
            job=job,
            last_status=last_status,
        )
        self.phase = phase
        self.since = since
        self.attempt = attempt


class GatherError(ModelMaxError, ExceptionGroup[Exception]):
    """Some jobs of a `gather_results` failed; the results of the others are in the ledger.

    Attributes:
        outcomes: a `Succeeded` or a `Failed` for each job, in the order of the call.
    """

    def __new__(cls, message: str, exceptions: Sequence[Exception], *_: Any, **__: Any) -> Self:
        """Build the group without ``outcomes``, which the built-in class does not take."""
        return super().__new__(cls, message, exceptions)

    def __init__(
        self,
        message: str,
        exceptions: Sequence[Exception],
        *,
        outcomes: Sequence[Succeeded | Failed] = (),
    ) -> None:
        super().__init__(message)
        self.args: tuple[Any, ...] = (message, list(exceptions))
        self.outcomes: tuple[Succeeded | Failed, ...] = tuple(outcomes)

    def derive(self, excs: Sequence[Exception], /) -> GatherError:  # type: ignore[override]  # the stub wants a generic group
        """Return the same error with some of its exceptions, as ``except*`` requires.

        Args:
            excs: those exceptions.
        """
        return GatherError(self.message, excs, outcomes=self.outcomes)

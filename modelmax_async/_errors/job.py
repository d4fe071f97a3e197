"""Errors about what became of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from modelmax_async._errors.base import ModelMaxError

if TYPE_CHECKING:
    from modelmax_async._models import Job, Outcome, Phase, Status


class JobError(ModelMaxError):
    """Something about one job.

    Attributes:
        job: the job.
        last_status: the last status seen, ``None`` when none was.
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
    """The job had not ended within ``timeout``. It goes on at the server: wait again."""


class NotReadyError(JobError):
    """The result was asked for before the job was COMPLETED. Nothing was billed."""


class InconsistentStateError(JobError):
    """Status says COMPLETED, the result endpoint still does not. Nothing was billed."""


class ResultDroppedError(JobError):
    """The result was paid for and delivered, and the ledger no longer has its body.

    It is not fetched again without your explicit consent, which may charge a second time.
    """

    def __init__(self, *, job: Job, last_status: Status | str | None = None) -> None:
        super().__init__(
            "the result was paid for and delivered, and the ledger no longer has its body. "
            "result(job, accept_second_charge=True) fetches it again and may charge again",
            job=job,
            last_status=last_status,
        )


class ResultUncertainError(JobError):
    """The billed call has an unknown outcome; it is not repeated without your explicit consent.

    Attributes:
        phase: ``"sent"``, or ``"answered"`` once bytes of an answer had come.
        since: when that became known, seconds since the epoch.
        attempt: the id of the call whose outcome is unknown; ``None`` where the job was given
            up.
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
            f"the billed call has an unknown outcome ({phase}): {cause}. It may have been "
            "charged. Look at the account's usage, then call "
            "result(job, accept_second_charge=True) to fetch it again",
            job=job,
            last_status=last_status,
        )
        self.phase = phase
        self.since = since
        self.attempt = attempt


class GatherError(ModelMaxError, ExceptionGroup[Exception]):
    """Some jobs of a `gather_results` ended in an error; the others' results are kept.

    Attributes:
        outcomes: one `Outcome` for each job asked for, in the order given.
    """

    def __new__(cls, message: str, exceptions: Sequence[Exception], *_: Any, **__: Any) -> Self:
        """Build the group; ``outcomes`` is no business of the built-in class."""
        return super().__new__(cls, message, exceptions)

    def __init__(
        self,
        message: str,
        exceptions: Sequence[Exception],
        *,
        outcomes: Sequence[Outcome] = (),
    ) -> None:
        super().__init__(message)
        self.args = (message, list(exceptions))
        self.outcomes = tuple(outcomes)

    def derive(self, excs: Sequence[Exception], /) -> GatherError:  # type: ignore[override]  # the stub wants a generic group
        """Return the same error over some of its exceptions, as ``except*`` needs it."""
        return GatherError(self.message, excs, outcomes=self.outcomes)

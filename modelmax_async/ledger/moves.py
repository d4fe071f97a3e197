"""The moves that a ledger can be asked to make; `step` grants or refuses them.

Most are about a job. `Reserve` and `Bind` are about the key of a submit; so are `Renew`,
`Release`, `Uncertain` and `Forget` if they are applied to a `SubmitKey`.
"""

import attrs

from modelmax_async._models import Job, Phase, Value


@attrs.frozen
class Look(Value):
    """Read the entry of ``job`` without a change."""

    job: Job


@attrs.frozen
class Remember(Value):
    """The server has acknowledged ``job``, by a 202 or a valid status response."""

    job: Job


@attrs.frozen
class Claim(Value):
    """A client wants to make the billed call.

    Attributes:
        job: the job; the ledger need not have seen it before.
        owner: the client.
        attempt: the id of this attempt.
        lease: seconds that the claim holds unless it is renewed.
        accept: the attempt that the user has decided to pay for again, because its outcome is
            uncertain or its response unreadable. Without it, only a known job can be claimed.
        takeover: the ``lease_until`` of an owner that is gone. The caller has watched it stand
            still, by its own monotonic clock, for longer than the lease. It counts only while
            the entry still has that value.
        acknowledged: whether the server has confirmed that it knows the job.
    """

    job: Job
    owner: str
    attempt: str
    lease: float
    accept: str | None = None
    takeover: float | None = None
    acknowledged: bool = False


@attrs.frozen
class Arm(Value):
    """The first byte of ``attempt`` is sent next; its claim holds ``lease`` more seconds."""

    attempt: str
    lease: float


@attrs.frozen
class Renew(Value):
    """The owner of ``attempt`` is alive; its claim holds ``lease`` more seconds."""

    attempt: str
    lease: float


@attrs.frozen
class Store(Value):
    """The paid response to ``attempt`` arrived, with this ``body``.

    Even a ledger that has lost the entry of ``job`` stores it.
    """

    job: Job
    attempt: str
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class Release(Value):
    """The call ``attempt`` is proven to be unbilled, or the submit to have made no job.

    Attributes:
        attempt: the attempt.
        unknown: whether the server says that it does not know the job. If it has never
            acknowledged it, the entry is deleted.
    """

    attempt: str
    unknown: bool = False


@attrs.frozen
class Fail(Value):
    """The server says FAILED, which is never billed.

    Attributes:
        error: the server's text.
        attempt: the attempt whose response says so; ``None`` for a status response.
        takeover: as in `Claim`.
    """

    error: str
    attempt: str | None = None
    takeover: float | None = None


@attrs.frozen
class Uncertain(Value):
    """The call ``attempt`` was sent, and no usable response arrived.

    ``phase`` is ``"sent"``, or ``"answered"`` once bytes of the response had arrived; ``cause``
    says what happened.
    """

    attempt: str
    phase: Phase
    cause: str


@attrs.frozen
class Forget(Value):
    """The user gives up a job: one that is known or uncertain is abandoned.

    From then on no attempt at it is granted without a new decision, also not one that is under
    way: the key of the job can be given to another request. A failed job stays failed, and one
    that was paid for is refused. Applied to a `SubmitKey`, it frees the key if that belongs to
    the job; apply it to the job first.

    Attributes:
        request_id: the server's id of the job.
        takeover: as in `Claim`.
    """

    request_id: str
    takeover: float | None = None


@attrs.frozen
class MarkSaved(Value):
    """The videos of the paid result were saved."""


@attrs.frozen
class Prune(Value):
    """Drop the body of the result if it was saved at ``before`` or earlier.

    ``before`` is in seconds since the epoch. That the job was paid for stays recorded.
    """

    before: float


@attrs.frozen
class Reserve(Value):
    """A client wants to submit the request of a key.

    Attributes:
        fingerprint: a digest of the request.
        attempt: the id of this attempt.
        lease: seconds that the reservation holds unless it is renewed.
        takeover: as in `Claim`.
    """

    fingerprint: str
    attempt: str
    lease: float
    takeover: float | None = None


@attrs.frozen
class Bind(Value):
    """The server has accepted the request of a key as ``job``. The first one recorded wins.

    Attributes:
        fingerprint: a digest of the request.
        attempt: the attempt that was accepted.
        job: the job.
    """

    fingerprint: str
    attempt: str
    job: Job


Move = (
    Look
    | Remember
    | Claim
    | Arm
    | Renew
    | Store
    | Release
    | Fail
    | Uncertain
    | Forget
    | MarkSaved
    | Prune
    | Reserve
    | Bind
)

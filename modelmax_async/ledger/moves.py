"""The moves that a ledger can be asked to make for one job; `step` grants or refuses them."""

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
    """The call ``attempt`` is proven to be unbilled."""

    attempt: str


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


Move = Look | Remember | Claim | Arm | Renew | Store | Release | Fail | Uncertain

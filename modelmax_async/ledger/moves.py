"""What can be asked of a ledger about one job: the moves that `step` grants or refuses."""

import attrs

from modelmax_async._models import Job, Phase, Value


@attrs.frozen
class Look(Value):
    """Read the entry and change nothing."""

    job: Job


@attrs.frozen
class Remember(Value):
    """The server has acknowledged the job: by a 202, or by a valid status answer."""

    job: Job


@attrs.frozen
class Claim(Value):
    """A client wants to make the billed call.

    Attributes:
        job: the job; the ledger need not have seen it before.
        owner: the client.
        attempt: the id of this attempt.
        lease: seconds for which the claim holds unless it is renewed.
        accept: the attempt whose unknown or unreadable outcome the user has decided to pay
            for again; without it, only a job that owes no answer can be claimed.
        takeover: the ``lease_until`` of an owner that is gone. The caller has watched it stand
            still, by a monotonic clock of its own, for longer than the lease. It counts only
            as long as it is still that value.
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
    """The next thing on the wire is the first byte of this attempt."""

    attempt: str
    lease: float


@attrs.frozen
class Renew(Value):
    """The owner of this attempt is alive."""

    attempt: str
    lease: float


@attrs.frozen
class Store(Value):
    """The paid answer arrived. It is kept even by a ledger that has lost the entry."""

    job: Job
    attempt: str
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class Release(Value):
    """This attempt provably billed nothing."""

    attempt: str


@attrs.frozen
class Fail(Value):
    """The server says FAILED, which is never billed.

    Attributes:
        error: the server's text.
        attempt: the attempt that it said so to; ``None`` for a status answer.
        takeover: as in `Claim`.
    """

    error: str
    attempt: str | None = None
    takeover: float | None = None


@attrs.frozen
class Doubt(Value):
    """This attempt was sent, and no usable answer arrived."""

    attempt: str
    phase: Phase
    cause: str


Move = Look | Remember | Claim | Arm | Renew | Store | Release | Fail | Doubt

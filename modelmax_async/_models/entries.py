"""What a ledger records of a job, and of the key of a submit."""

from typing import Literal

import attrs

from modelmax_async._models.jobs import Job
from modelmax_async._models.value import Value

LedgerState = Literal[
    "known", "claimed", "armed", "stored", "failed", "uncertain", "abandoned", "delivered"
]
Phase = Literal["sent", "answered"]
#: The states of jobs that have neither a stored result nor a failure.
UNFINISHED: frozenset[LedgerState] = frozenset({"known", "claimed", "armed", "uncertain"})


@attrs.frozen(kw_only=True)
class LedgerEntry(Value):
    """The record of one job in a ledger.

    Attributes:
        job: the job.
        state: the state of its billed call; see `modelmax_async.ledger`.
        since: when it entered this state, in seconds since the epoch.
        owner: the client that claimed it, while it is claimed or armed.
        attempt: the id of the latest attempt at the billed call.
        lease_until: when the latest lease ends by the ledger's clock, in seconds since the
            epoch. Every claim and renewal makes it later: if it stands still, the owner is
            gone, whatever the clocks say.
        lease: the length of that lease in seconds.
        resting: the state that the latest attempt began from.
        decided: the earlier attempt that the user decided to pay for again with the latest
            one, if any.
        phase: of an uncertain entry: ``"sent"``, or ``"answered"`` once bytes of the response
            had arrived.
        cause: of an uncertain entry: what happened, in words.
        error: of a failed entry: the server's text.
        body: of a stored entry: the paid response, byte for byte, or as JSON without the API
            key if the server quoted that.
        acknowledged: whether the server has confirmed that it knows the job.
        saved_at: of a paid entry: when its videos were saved, in seconds since the epoch.
    """

    job: Job
    state: LedgerState
    since: float
    owner: str | None = None
    attempt: str | None = None
    lease_until: float = 0.0
    lease: float = 0.0
    resting: LedgerState | None = None
    decided: str | None = None
    phase: Phase | None = None
    cause: str | None = None
    error: str | None = None
    body: bytes | None = attrs.field(default=None, repr=False)
    acknowledged: bool = True
    saved_at: float | None = None


@attrs.frozen(kw_only=True)
class Submission(Value):
    """The record of one key of `AsyncQueueClient.submit` in a ledger.

    Attributes:
        fingerprint: a digest of the request that the key belongs to.
        since: when the key was reserved, or when its job was submitted, in seconds since the
            epoch.
        attempt: the id of the submit in progress; ``None`` if there is none.
        lease_until: when the latest lease ends, as in `LedgerEntry`.
        lease: the length of that lease in seconds.
        job: the job that the key belongs to, once the server has accepted it.
    """

    fingerprint: str
    since: float
    attempt: str | None = None
    lease_until: float = 0.0
    lease: float = 0.0
    job: Job | None = None

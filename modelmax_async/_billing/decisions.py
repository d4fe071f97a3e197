"""Consent to pay again, what it is about, and the attempts that rest on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import attrs

from modelmax_async._billing.outcomes import Settled
from modelmax_async._models import Job, LedgerEntry
from modelmax_async.ledger.attempts import is_held
from modelmax_async.ledger.moves import Claim


@attrs.frozen
class Decision:
    """The user's consent to pay again for what one attempt left open, and for nothing else.

    Attributes:
        attempt: the attempt that it is about.
        lease_until: the lease of that attempt when consent was given. If it is renewed after
            that, the call was still under way, and the decision is void.
        wanted: whether the coroutine that decided is still waiting.
    """

    attempt: str
    lease_until: float | None
    wanted: Callable[[], bool]


def decide(entry: LedgerEntry, wanted: Callable[[], bool]) -> Decision | None:
    """Return a decision about what the entry leaves open; ``None`` if nothing is open."""
    if entry.attempt is None or entry.state in {"known", "failed"}:
        return None
    lease = entry.lease_until if is_held(entry) else None
    return Decision(entry.attempt, lease, wanted)


@attrs.frozen
class Attempt:
    """One attempt at the billed call of a job.

    Attributes:
        job: the job.
        id: its id in the ledger.
        decisions: those that it rests on, if any; more may join.
        takeover: the lease of an owner that is gone, if it takes over from one.
    """

    job: Job
    id: str
    decisions: list[Decision]
    takeover: float | None

    def claim(self, owner: str, lease: float, *, acknowledged: bool) -> Claim:
        """Return the move that claims the job, over the attempt that consent was given for."""
        accept = next((decision.attempt for decision in self._holding()), None)
        return Claim(self.job, owner, self.id, lease, accept, self.takeover, acknowledged)

    @property
    def unwanted(self) -> bool:
        """Whether it pays again for coroutines that have all stopped waiting."""
        holding = self._holding()
        return bool(holding) and not any(decision.wanted() for decision in holding)

    def _holding(self) -> list[Decision]:
        """Return the decisions that are not void, since no lease was renewed after them."""
        return [d for d in self.decisions if d.lease_until in {None, self.takeover}]


class NotArmed(Exception):  # noqa: N818 - control flow in the settler, not an error
    """No byte may be sent: the claim was lost, is too old, or is no longer wanted."""


@attrs.frozen
class Flight:
    """One attempt under way in this client, and the decisions that it rests on."""

    job: Job
    task: asyncio.Task[Settled]
    decisions: list[Decision]

    def serves(self, job: Job, decision: Decision | None) -> bool:
        """Whether another caller who wants the job may join, and share its outcome.

        Consent to pay again is shared by all callers who gave it for the same attempt. A call
        that began without consent must end first.
        """
        same = decision is None or any(d.attempt == decision.attempt for d in self.decisions)
        return self.job.model == job.model and same

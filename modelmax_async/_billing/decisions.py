"""Consent to pay again, what it is about, and the attempts under way that rest on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import attrs

from modelmax_async._billing.outcomes import Again
from modelmax_async._models import Job, LedgerEntry, Result
from modelmax_async.ledger.moves import Claim
from modelmax_async.ledger.transitions import is_held


@attrs.frozen
class Decision:
    """The user's consent to pay again for what one attempt left open, and for nothing else.

    Attributes:
        attempt: the attempt that it is about.
        lease_until: the lease that stood on that attempt when consent was given. If it is
            ever renewed, the call was still under way, and the decision is void.
        wanted: whether the coroutine that decided is still there.
    """

    attempt: str
    lease_until: float | None
    wanted: Callable[[], bool]


def decide(entry: LedgerEntry, wanted: Callable[[], bool]) -> Decision | None:
    """Return a decision about what the entry leaves open; ``None`` where nothing is."""
    if entry.attempt is None or entry.state in {"known", "failed"}:
        return None
    lease = entry.lease_until if is_held(entry) else None
    return Decision(entry.attempt, lease, wanted)


@attrs.frozen
class Attempt:
    """One attempt at the billed call of a job.

    Attributes:
        job: the job.
        id: what the ledger knows the attempt by.
        decisions: those that it rests on, if any; more may join.
        takeover: the lease of an owner that is gone, if that is what it takes over.
    """

    job: Job
    id: str
    decisions: list[Decision]
    takeover: float | None

    def claim(self, owner: str, lease: float, *, acknowledged: bool) -> Claim:
        """Return the move that claims the job, over the attempt that was decided about."""
        accept = next((decision.attempt for decision in self._holding()), None)
        return Claim(self.job, owner, self.id, lease, accept, self.takeover, acknowledged)

    @property
    def unwanted(self) -> bool:
        """Whether it pays over an earlier one for coroutines that are all gone."""
        holding = self._holding()
        return bool(holding) and not any(decision.wanted() for decision in holding)

    def _holding(self) -> list[Decision]:
        """Return the decisions that are not void: no lease was renewed after them."""
        return [d for d in self.decisions if d.lease_until in {None, self.takeover}]


class NotArmed(Exception):  # noqa: N818 - control flow in the settler, not an error
    """Not one byte may be sent: the claim is another's, too old, or nobody's wish any more."""


@attrs.frozen
class Flight:
    """One attempt under way in this client, and the decisions that it rests on."""

    job: Job
    task: asyncio.Task[Result | Again]
    decisions: list[Decision]

    def serves(self, job: Job, decision: Decision | None) -> bool:
        """Whether another caller who wants the job may join, and share what comes of it.

        One consent to pay again is shared by all who gave it; a call that began without one
        must first show what it brings.
        """
        same = decision is None or any(d.attempt == decision.attempt for d in self.decisions)
        return self.job.model == job.model and same

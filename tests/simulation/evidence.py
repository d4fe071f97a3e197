"""What the judge goes by: plain values, and the documented format of a paid answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs

from modelmax_async import LedgerEntry
from modelmax_async.ledger import Key, Move, Step

if TYPE_CHECKING:
    from simulation.processes import Process


@attrs.frozen
class Violation:
    """A rule that was broken: its name, the job or process, and what was seen."""

    rule: str
    about: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.about}: {self.detail}"


def readable(body: bytes | None, request_id: str) -> bool:
    """Whether a body is a paid result of this job, by the documented format (API §3)."""
    try:
        found = json.loads(body or b"")
        urls = [item["url"] for item in found["data"]]
        named = found["request_id"] == request_id
    except (ValueError, KeyError, TypeError):
        return False
    return found["status"] == "COMPLETED" and named and bool(urls)


@attrs.frozen
class Moved:
    """One move, as the store took it: ``asked`` is when it left its process."""

    process: Process
    key: Key
    move: Move
    asked: float
    before: LedgerEntry | None
    done: Step
    after: LedgerEntry


@attrs.frozen
class Sign:
    """The last sign of life of an attempt.

    Attributes:
        until: when its lease runs out in true time, counted from the store's commit.
        asked: the same counted from the asking: all that the sender itself may rely on.
    """

    until: float
    asked: float

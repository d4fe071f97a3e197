"""What a transaction does with the moves that share it: pure, without I/O or a clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from modelmax_async._models import LedgerEntry, Submission
from modelmax_async.ledger.moves import Move
from modelmax_async.ledger.protocol import Key, SubmitKey
from modelmax_async.ledger.submissions import SubmitStep, submit_step
from modelmax_async.ledger.transitions import Step, job_step

AnyKey = Key | SubmitKey
#: What is recorded under a key.
Record = LedgerEntry | Submission
#: What a move is answered with.
Answer = Step | SubmitStep | None
#: The states that end the waiting of other clients. A job that was released is not among
#: them: two clients would wake each other without a pause.
_ENDED = frozenset({"stored", "failed", "uncertain", "abandoned", "delivered"})


@attrs.frozen
class Found:
    """What a transaction read and locked.

    Attributes:
        now: the time of the server's clock, in seconds since the epoch.
        records: what is recorded under the keys that were asked for.
        busy: the keys whose rows another transaction holds.
    """

    now: float
    records: Mapping[AnyKey, Record]
    busy: frozenset[AnyKey] = frozenset()


@attrs.define
class Changes:
    """What a transaction writes.

    Attributes:
        added: new records.
        changed: records in the place of others; with each, whether the body stays as it is.
        deleted: keys whose records are deleted.
        ended: the keys of jobs that other clients may be waiting for.
    """

    added: dict[AnyKey, Record] = attrs.field(factory=dict)
    changed: dict[AnyKey, tuple[Record, bool]] = attrs.field(factory=dict)
    deleted: list[AnyKey] = attrs.field(factory=list)
    ended: list[Key] = attrs.field(factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.deleted)


def decide(found: Found, moves: Iterable[tuple[AnyKey, Move]]) -> tuple[list[Answer], Changes]:
    """Take the moves in their order, each from where the one before left its key.

    Args:
        found: what the transaction read; the moves are about these keys, none of them busy.
        moves: the moves.

    Returns:
        The answers to the moves, and what is to be written before they may be given.
    """
    records: dict[AnyKey, Record | None] = {}
    answers: list[Answer] = []
    for key, move in moves:
        before = records[key] if key in records else found.records.get(key)
        answer = _step(key, before, move, found.now)
        answers.append(answer)
        if answer is not None:
            records[key] = None if answer.deleted else answer.entry
    return answers, _changes(found.records, records)


def _step(key: AnyKey, before: Any, move: Move, now: float) -> Answer:
    step = submit_step if isinstance(key, SubmitKey) else job_step
    answer: Answer = step(before, move, now)
    return answer


def _changes(
    found: Mapping[AnyKey, Record], records: Mapping[AnyKey, Record | None]
) -> Changes:
    changes = Changes()
    for key, record in records.items():
        before = found.get(key)
        if record is before:
            continue
        if record is None:
            changes.deleted.append(key)
            continue
        if before is None:
            changes.added[key] = record
        else:
            changes.changed[key] = record, _same_body(before, record)
        if isinstance(key, Key) and _has_ended(before, record):
            changes.ended.append(key)
    return changes


def _same_body(before: Record, after: Record) -> bool:
    return getattr(before, "body", None) == getattr(after, "body", None)


def _has_ended(before: Record | None, after: Record) -> bool:
    state = getattr(after, "state", None)
    return state in _ENDED and state != getattr(before, "state", None)

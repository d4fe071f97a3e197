"""Each process's PostgreSQL ledger: the package's own, over simulated connections."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import attrs

from modelmax_async import LedgerError
from modelmax_async.ledger import Key, Look, Move, Step, SubmitKey, postgres_batch
from modelmax_async.ledger import postgres_transaction as transaction
from modelmax_async.ledger.postgres_address import Address
from modelmax_async.ledger.postgres_batch import Answer, AnyKey
from modelmax_async.ledger.postgres_moves import Moves
from modelmax_async.ledger.postgres_tables import Tables
from modelmax_async.ledger.postgres_writer import Writer
from simulation.evidence import Moved
from simulation.judge import Judge
from simulation.ledgers import Handle
from simulation.loop import OWNER
from simulation.postgres_network import Line
from simulation.postgres_server import SCHEMA, PostgresStore

if TYPE_CHECKING:
    from simulation.processes import Process
    from simulation.world import World


@attrs.frozen(eq=False)
class Made:
    """A move as a transaction makes it: what becomes true if that is committed."""

    key: AnyKey
    move: Move
    before: Any
    answer: Answer
    tell: Callable[[Made, Any], None]

    @property
    def changes(self) -> bool:
        """Whether anything is written for it."""
        done = self.answer
        return done is not None and (done.deleted or done.entry is not self.before)


class PostgresHandle(Handle):
    """One process's handle on the server: it makes moves as a `PostgresLedger` does."""

    def __init__(
        self, world: World, process: Process, store: PostgresStore, judge: Judge
    ) -> None:
        super().__init__(world, process, store, judge, local=False)
        self.line = Line(world, process, store, world.stream(f"server of {process.name}"))
        self._asked: dict[int, tuple[Move, float]] = {}
        self._noted: dict[int, Made] = {}
        self._done: dict[int, Made] = {}
        self._failed: set[int] = set()
        self._moves = Moves(Writer(cast(Address, self.line)), Tables(SCHEMA))
        process.notes = self.note
        store.may_end = world.stream("role").random() < 1 / 2

    async def apply(self, key: Key | SubmitKey, move: Move) -> Answer:
        """Make a move. Cancelled, it is still made."""
        if isinstance(key, Key):
            self._judge.asked(self._process, key, move)
        move = copy.copy(move)  # so that it is known by its identity
        self._asked[id(move)] = move, self._world.loop.time()
        try:
            answer = await self._moves.apply(key, move)
        except LedgerError as exc:
            if "Nothing was recorded" in str(exc):
                self._failed.add(id(move))
                self._check_failed(key, move)
            raise
        made = self._noted[id(move)]
        done = self._done.get(id(move))
        if made.changes and done is None:
            self._accuse("a move is answered and not made", key, move)
        elif done is not None and done.answer is not answer:
            self._accuse("a move is made twice", key, move)
        return answer

    def note(self, found: Any, moves: Iterable[tuple[AnyKey, Move]], answers: Any) -> None:
        """Note what a transaction is about to do."""
        records = dict(found.records)
        for (key, move), answer in zip(moves, answers, strict=True):
            before = records.get(key)
            made = self._noted[id(move)] = Made(key, move, before, answer, self._committed)
            self.line.made.append(made)
            if answer is not None:
                records[key] = None if answer.deleted else answer.entry

    def _committed(self, made: Made, before: Any) -> None:
        """See that a move which has taken effect was free to do so; ``before`` is the truth."""
        key, move = made.key, made.move
        if isinstance(move, Look):  # it locks nothing: it was true when it was read
            before = made.before
        if made.changes:
            if before != made.before:
                self._accuse("a move goes by an old entry", key, move)
            if id(move) in self._done:
                self._accuse("a move is made twice", key, move)
            self._done[id(move)] = made
            self._check_failed(key, move)
        step = made.answer
        if isinstance(step, Step) and isinstance(key, Key) and not step.deleted:
            asked = self._asked[id(move)][1]
            moved = Moved(self._process, key, move, asked, before, step, step.entry)
            self._judge.moved(moved)

    def _check_failed(self, key: AnyKey, move: Move) -> None:
        if id(move) in self._failed and id(move) in self._done:
            self._accuse("a move fails and is made", key, move)

    def _accuse(self, rule: str, key: AnyKey, move: Move) -> None:
        about = self._judge.name(key.request_id) if isinstance(key, Key) else key.key
        self._judge.accuse(rule, about, f"{type(move).__name__} of {self._process.name}")


@contextmanager
def noting() -> Iterator[None]:
    """Have processes note what their transactions decide."""
    honest = postgres_batch.decide

    def decide(found: Any, moves: Any) -> Any:
        answers, changes = honest(found, moves)
        process = cast("Process", OWNER.get())
        process.notes(found, moves, answers)
        return answers, changes

    with patch.object(transaction, "decide", decide):
        yield

"""Defects put back into the package, to ask how many seeds the simulation needs for each.

A defect is a context manager that patches attributes for as long as it is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import attrs

from modelmax_async import TransportError, _verdicts
from simulation.run import Verdict, simulate

Defect = Callable[[], AbstractContextManager[object]]
DEFECTS: dict[str, Defect] = {}


def defect(name: str) -> Callable[[Defect], Defect]:
    """Register a defect under a name that says what is wrong."""

    def register(make: Defect) -> Defect:
        DEFECTS[name] = make
        return make

    return register


@defect("none: the package as it is")
def _none() -> AbstractContextManager[object]:
    return nullcontext()


@defect("a broken exchange is taken for one that was never sent")
@contextmanager
def _never_sent() -> Iterator[None]:
    def judge_break(error: TransportError, **_: bool) -> object:
        return _verdicts.Unbilled(error, retry=True)

    with patch.object(_verdicts, "judge_break", judge_break):
        yield


@defect("a gateway's page proves that nothing was billed")
@contextmanager
def _pages_are_proof() -> Iterator[None]:
    honest = _verdicts.judge_reply

    def judge_reply(reply: Any, job: Any, *, now: float) -> object:
        verdict = honest(reply, job, now=now)
        if isinstance(verdict, _verdicts.Unknown) and reply.status in _verdicts.UNBILLED:
            error = TransportError("a gateway's page", maybe_sent=False, job=job)
            return _verdicts.Unbilled(error, retry=reply.status in _verdicts.RETRIED)
        return verdict

    with patch.object(_verdicts, "judge_reply", judge_reply):
        yield


@attrs.frozen
class Found:
    """How many seeds it took to find a defect, and by which rules."""

    name: str
    seeds: int
    rules: tuple[str, ...]

    @property
    def found(self) -> bool:
        return bool(self.rules)


def hunt(name: str, limit: int, known: frozenset[str] = frozenset()) -> Found:
    """Run seeds under a defect until a rule is broken, ``known`` ones apart."""
    for seed in range(limit):
        with DEFECTS[name]():
            verdict: Verdict = simulate(seed)
        rules = dict.fromkeys(v.rule for v in verdict.violations if v.rule not in known)
        if rules:
            return Found(name, seed + 1, tuple(rules))
    return Found(name, limit, ())

"""The judge: sees every bill, move, byte 0 and answer, and says which rule was broken.

It shares no code with what it judges, and believes the emulator's own ledger of bills.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelmax_async import LedgerEntry
from modelmax_async.events import Event, LedgerFailed, ResultUncertain
from modelmax_async.ledger import Arm, Claim, Fail, Key, Move, Renew, Store
from simulation.evidence import Moved, Sign, Violation, readable
from simulation.rules import RULES

if TYPE_CHECKING:
    from simulation.processes import Process
    from simulation.world import World


#: What others make of an armed entry once they take its owner for dead.
_GONE = frozenset({"uncertain", "claimed"})
#: What the ledger may say of a job that was billed.
_OPEN_OR_KEPT = frozenset({"stored", "uncertain", "abandoned", "delivered", "armed"})


class Judge:
    """Collects violations while the world runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.violations: list[Violation] = []
        self.bills: Counter[str] = Counter()
        self.leave: Counter[str] = Counter()  # decisions, and waits of clients that refetch
        self.reported: set[str] = set()
        self.lost: set[str] = set()
        self.failed: set[str] = set()
        self.answers: list[tuple[Process, str]] = []
        self.moment: Callable[[Process], None] = lambda _: None
        self._signs: dict[str, Sign] = {}
        self._armed: dict[tuple[Process, str], str] = {}
        self._keys: dict[str, str] = {}
        self._deciding: Counter[tuple[Process, str]] = Counter()
        self._decided: dict[tuple[Process, str], float] = {}
        self._by_decision: set[str] = set()
        self._kept: set[tuple[Process, str]] = set()

    def accuse(self, rule: str, about: str, detail: str) -> None:
        """Note that a rule was broken."""
        assert rule in RULES, rule
        self.violations.append(Violation(rule, about, detail))
        self.world.log(None, f"VIOLATION {rule}: {about}: {detail}")

    def name(self, request_id: str) -> str:
        """Return the short name of a job."""
        return self.world.name_of(request_id)

    # -- what users do ---------------------------------------------------------------------

    @contextmanager
    def deciding(self, process: Process, request_id: str) -> Iterator[None]:
        """Bracket one ``result(accept_second_charge=True)``."""
        self.leave[request_id] += 1
        self._deciding[process, request_id] += 1
        try:
            yield
        finally:
            self._deciding[process, request_id] -= 1
            self._decided[process, request_id] = self.world.loop.time()

    def bound(self, process: Process, key: str, request_id: str) -> None:
        """Note which job a process was given for a key."""
        first = self._keys.setdefault(key, request_id)
        if first != request_id:
            jobs = f"{self.name(first)} and {self.name(request_id)}"
            self.accuse("a key has two jobs", jobs, f"{key!r} in {process.name}")

    def waiting(self, process: Process, request_id: str) -> None:
        """Note a wait: that of a client that refetches is leave to pay once more."""
        self.leave[request_id] += process.refetches

    def event(self, process: Process, event: Event) -> None:
        """Note what a client reports by itself."""
        if isinstance(event, LedgerFailed | ResultUncertain):
            self.reported.add(event.job.request_id)
            if isinstance(event, LedgerFailed):
                self.lost.add(event.job.request_id)
            self.world.log(process, f"{type(event).__name__} {self.name(event.job.request_id)}")

    # -- what the network sees -------------------------------------------------------------

    def billed(self, request_id: str) -> None:
        """Note a bill, as the emulator writes it."""
        self.bills[request_id] += 1
        count, leave = self.bills[request_id], 1 + self.leave[request_id]
        self.world.log(None, f"BILL {count} of {self.name(request_id)}")
        if count > leave:
            what = f"bill {count}, with leave for {leave}"
            self.accuse("billed without a decision", self.name(request_id), what)
            self.leave[request_id] += 1  # said once

    def answered(self, request_id: str, document: dict[str, Any]) -> None:
        """Note that an answer about this very job says that it failed, be it true or a lie."""
        if document.get("status") == "FAILED" and document.get("request_id") == request_id:
            self.failed.add(request_id)

    def byte_zero(self, process: Process, request_id: str, *, own: bool) -> None:
        """Note that a billed call leaves a process."""
        self.world.log(process, f"byte 0 for {self.name(request_id)}")
        self.moment(process)
        attempt = self._armed.get((process, request_id))
        if attempt is None:
            self.accuse("sent without arming", self.name(request_id), process.name)
        elif own and (late := self.world.loop.time() - self._signs[attempt].asked) > 0:
            what = f"{process.name} sent it {late:.3f} s after its lease"
            self.accuse("sent after its lease", self.name(request_id), what)

    def delivered(self, process: Process, request_id: str, body: bytes) -> None:
        """Note that a client has all bytes of a paid answer."""
        if readable(body, request_id):
            self.answers.append((process, request_id))
            self.world.log(process, f"has the paid answer of {self.name(request_id)}")
        self.moment(process)

    # -- what the ledger sees --------------------------------------------------------------

    def asked(self, process: Process, key: Key, move: Move) -> None:
        """Note a move on its way to the store."""
        now, job = self.world.loop.time(), key.request_id
        if not isinstance(move, Renew):
            accept = " accept" if getattr(move, "accept", None) else ""
            self.world.log(process, f"asks {type(move).__name__}{accept} {self.name(job)}")
        if isinstance(move, Claim | Arm | Store):
            self.moment(process)
        if isinstance(move, Store):
            self._kept.add((process, job))
        decided = getattr(move, "accept", None) or (
            isinstance(move, Arm) and move.attempt in self._by_decision
        )
        if not decided or process.refetches or self._deciding[process, job]:
            return
        over = self._decided.get((process, job))
        if over is None or over < now:
            since = "was never made" if over is None else f"ended {now - over:.3f} s before"
            what = f"{process.name} asks {type(move).__name__}, and the decision {since}"
            self.accuse("a decision outlives its coroutine", self.name(job), what)

    def moved(self, at: Moved) -> None:
        """Look at what a move changed in the store."""
        job, move, process = at.key.request_id, at.move, at.process
        old = "none" if at.before is None else at.before.state
        if not isinstance(move, Renew):
            verb = "granted" if at.done.granted else "refused"
            what = f"{type(move).__name__} {self.name(job)} {verb}"
            self.world.log(process, f"{what}: {old} -> {at.done.entry.state}")
        if at.before is not None:
            self._check_change(at, at.before)
        if (
            isinstance(move, Store)
            and readable(move.body, job)
            and not readable(at.after.body, job)
        ):
            self.accuse("a readable answer is refused", self.name(job), f"it is {old}")
        if at.done.granted:
            self._granted(at)

    def _granted(self, at: Moved) -> None:
        job, move, process = at.key.request_id, at.move, at.process
        if isinstance(move, Claim) and move.accept:
            self._by_decision.add(move.attempt)
        if isinstance(move, Arm | Renew):
            until = self.world.loop.time() + move.lease
            before = self._signs.get(move.attempt, Sign(0.0, 0.0))
            asked = max(before.asked, at.asked + move.lease)
            self._signs[move.attempt] = Sign(max(before.until, until), asked)
        if isinstance(move, Fail) and job not in self.failed:
            self.accuse("failed by an answer about another job", self.name(job), process.name)
        if isinstance(move, Arm):
            self._armed[process, job] = move.attempt
            if at.before is not None and readable(at.before.body, job):
                what = f"{process.name} arms over a readable stored answer"
                self.accuse("a readable answer is paid over", self.name(job), what)

    def _check_change(self, at: Moved, before: LedgerEntry) -> None:
        job, move, after = at.key.request_id, at.move, at.after
        own = getattr(move, "attempt", None) == before.attempt and not isinstance(move, Claim)
        what = f"{type(move).__name__}: {before.state} -> {after.state}"
        if before.state == "armed" and not own and at.done.entry.state in _GONE:
            self._check_gone(job, before)
        displaced = readable(before.body, job) and not readable(after.body, job)
        if displaced and str(after.state) != "delivered":
            self.accuse("a readable answer is displaced", self.name(job), what)
        decided = before.state == "claimed" and before.phase is not None
        owes = decided or before.state in {"uncertain", "armed"}
        if owes and not own and after.state in {"failed", "known"}:
            self.accuse("an open outcome is forgotten", self.name(job), what)
        if after.state == "known" and before.state != "known" and self.bills[job]:
            self.accuse("a billed call is released", self.name(job), what)

    def _check_gone(self, job: str, before: LedgerEntry) -> None:
        sign = self._signs.get(before.attempt or "")
        left = 0.0 if sign is None else sign.until - self.world.loop.time()
        if left > 0:
            what = f"its lease holds for another {left:.3f} s"
            self.accuse("a healthy call is declared gone", self.name(job), what)

    # -- at the end ------------------------------------------------------------------------

    def close(self, entries: dict[str, LedgerEntry | None]) -> None:
        """Look at what the ledger has at the end of the calm, before anybody decides more."""
        for job, count in self.bills.items():
            entry = entries.get(job)
            state = "missing" if entry is None else str(entry.state)
            if entry is not None and state == "claimed":
                state = str(
                    entry.resting
                )  # its owner is gone, and nobody asks: it is as before
            if state not in _OPEN_OR_KEPT and job not in self.reported:
                self.accuse("a bill is forgotten", self.name(job), f"{count} bills, {state}")

    def end(self, entries: dict[str, LedgerEntry | None]) -> None:
        """Look for answers that came whole and that no closed client has put away."""
        for process, job in self.answers:
            entry = entries.get(job)
            stored = entry is not None and readable(entry.body, job)
            tried = (process, job) in self._kept
            if process.alive and job not in self.lost and not (stored and tried):
                what = (
                    f"{process.name}, which {'tried' if tried else 'never tried'} to store it"
                )
                self.accuse("a paid answer is dropped", self.name(job), what)

    def result(self, process: Process, request_id: str, raw: Any) -> None:
        """Look at a result that a user got."""
        if raw.get("request_id") != request_id:
            what = f"{process.name} got {self.name(str(raw.get('request_id')))}"
            self.accuse("a result of another job", self.name(request_id), what)

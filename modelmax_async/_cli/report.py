"""The report of a batch: results on standard output, the progress on standard error."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from modelmax_async._cli.exits import Exit
from modelmax_async._cli.listing import print_line
from modelmax_async._cli.records import (
    as_line,
    name_of,
    outcome_record,
    places_of,
    printable,
    problem_of,
    title_of,
)
from modelmax_async._cli.tally import State, Tally
from modelmax_async._client import AsyncQueueClient
from modelmax_async._models import Outcome
from modelmax_async.events import Event

_TICK = 0.25  # seconds between two updates of the progress
_STYLES = {State.DONE: "green", State.FAILED: "red", State.UNCERTAIN: "bold yellow"}
_ALWAYS = {State.WAITING, State.RUNNING, State.DONE, State.FAILED, State.UNCERTAIN}
_MINUTE = 60  # seconds, and minutes of an hour


class Report:
    """Prints each outcome of a batch as it ends, and shows how the batch stands.

    Args:
        total: how many jobs the batch has.
        as_json: whether each outcome is printed as a line of JSON.
    """

    def __init__(self, total: int, *, as_json: bool) -> None:
        self.tally = Tally(total)
        self._as_json = as_json
        self._console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._live: Live | None = None
        self._start = time.monotonic()
        self._left: float | None = None

    @property
    def exit(self) -> Exit:
        """The exit code for the outcomes so far."""
        ends = self.tally.ends
        if ends[State.UNCERTAIN]:
            return Exit.UNCERTAIN
        return Exit.FAILED if ends[State.FAILED] + ends[State.UNFINISHED] else Exit.DONE

    def on_event(self, event: Event) -> None:
        """Note an event of the client: it is one of its hooks."""
        self.tally.on_event(event)

    @asynccontextmanager
    async def progress(self, client: AsyncQueueClient) -> AsyncIterator[None]:
        """Show the progress while the block runs, then how all jobs have ended."""
        ticking: asyncio.Task[None] | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                get_renderable=self.render,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
            ticking = asyncio.create_task(self._tick(client, self._live))
        try:
            yield
        except asyncio.CancelledError:
            if self.tally.billing:
                self._note("Interrupted: the billed calls in progress end first.", wrap=True)
            raise
        finally:
            if ticking is not None:
                ticking.cancel()
            if self._live is not None:
                self._live.stop()
                self._live = None
        self._note(summary(self.tally))

    def ended(self, outcome: Outcome) -> None:
        """Print how a job has ended."""
        state = self.tally.on_outcome(outcome)
        if self._as_json:
            self._print(as_line(outcome_record(outcome)))
        elif self._one_terminal():
            if outcome.error is None:
                self._note("\n    ".join([title_of(outcome), *places_of(outcome)]))
        else:
            for where in places_of(outcome):
                self._print(f"{printable(name_of(outcome))}\t{where}")
        if outcome.error is not None:
            problem = problem_of(outcome.error)
            self._note(f"{self._place()}{state} {title_of(outcome)}: {problem}", wrap=True)
        elif self._live is None:
            self._note(f"{self._place()}{state} {title_of(outcome)}")

    def render(self) -> Group:
        """Return the live lines: a bar with the time left, and the jobs by state."""
        tally = self.tally
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_row(
            ProgressBar(total=max(1, tally.total), completed=tally.ended),
            f"{tally.ended}/{tally.total}  {self._time()}",
        )
        counts = [
            Text(f"{state} {count}", style=_STYLES.get(state, "") if count else "")
            for state, count in tally.counts().items()
            if count or state in _ALWAYS
        ]
        return Group(bar, Text(" · ").join(counts))

    def _time(self) -> str:
        if self._left is None:
            return f"{duration(time.monotonic() - self._start)} so far"
        return f"about {duration(self._left)} left"

    def _place(self) -> str:
        return f"[{self.tally.ended}/{self.tally.total}] "

    async def _tick(self, client: AsyncQueueClient, live: Live) -> None:
        while True:
            self._left = self.tally.left(client.expected)
            live.refresh()
            await asyncio.sleep(_TICK)

    def _one_terminal(self) -> bool:
        """Whether standard output is a terminal too, whose live lines must stay below."""
        return self._live is not None and sys.stdout.isatty()

    def _print(self, text: str) -> None:
        """Print a line on standard output."""
        if self._one_terminal():
            self._note(text)
        else:
            print_line(text)

    def _note(self, text: str, *, wrap: bool = False) -> None:
        """Print on standard error; only a terminal breaks lines, and only between words."""
        soft = not (wrap and self._console.is_terminal)
        self._console.print(printable(text), soft_wrap=soft)


def summary(tally: Tally) -> str:
    """Return one line about how the jobs have ended."""
    ends = [f"{tally.ends[state]} {state}" for state in State if tally.ends[state]]
    noun = "job" if tally.total == 1 else "jobs"
    return f"{tally.total} {noun}: {', '.join(ends) or 'none ended'}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it, such as ``40 s`` or ``1 h 05 min``."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    minutes = round(whole / _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min"
    return f"{minutes // _MINUTE} h {minutes % _MINUTE:02} min"

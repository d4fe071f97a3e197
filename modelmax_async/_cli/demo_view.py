"""The demo's output: a live table on a terminal, else plain lines, and the bill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from modelmax_async._cli.demo import Row

_COLOURS = {"IN_PROGRESS": "cyan", "COMPLETED": "green", "FAILED": "red"}
_BAR = 16  # columns of a progress bar
#: Columns of a terminal from which the live table shows a bar, and the size of a video too.
_WITH_BARS, _WITH_SIZES = 78, 94


@contextmanager
def progress(console: Console, rows: Sequence[Row]) -> Iterator[Callable[[Row], object]]:
    """Show the jobs while the block runs; its function is called with each changed row."""
    start = time.monotonic()
    shown: dict[int, str] = {}

    def print_change(row: Row) -> None:
        text = f"saved {row.files[0].name}" if row.files else row.status
        if shown.get(row.number) != text:
            shown[row.number] = text
            seconds = time.monotonic() - start
            _say(console, f"{seconds:5.1f} s  job {row.number}: {text}")

    def render() -> Table:
        return live_table(rows, time.monotonic() - start, console.width)

    if not console.is_terminal:
        yield print_change
        return
    with Live(get_renderable=render, console=console, refresh_per_second=8, transient=True):
        yield lambda _: None  # the table is drawn eight times a second anyway


def show_report(
    console: Console, rows: Sequence[Row], directory: Path, *, billed_again: int
) -> None:
    """Print a table with the cost of every job, and the sums."""
    table = Table(title="Eight jobs on a local ModelMax", title_justify="left")
    table.add_column("job", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("polls", justify="right", no_wrap=True)
    table.add_column("billed calls", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.number} {row.prompt}",
            _coloured(row.status),
            str(row.polls),
            str(row.billed),
        )
    console.print(table)
    for row in rows:
        for path in row.files:
            _say(console, f"Job {row.number} saved {path.name}")
    for row in rows:
        if row.error:
            _say(console, f"Job {row.number} FAILED and was not billed: {row.error}", wrap=True)
    billed, files = sum(row.billed for row in rows), sum(len(row.files) for row in rows)
    _say(
        console,
        f"Sum: {len(rows)} jobs, {sum(row.polls for row in rows)} polls, "
        f"{billed} billed calls, {files} files, {sum(row.size for row in rows):,} bytes\n"
        f"Asked for all {len(rows)} results once more: {billed_again - billed} further "
        "billed calls",
        wrap=True,
    )
    _say(console, f"The videos are in {directory}")


def _say(console: Console, text: str, *, wrap: bool = False) -> None:
    """Print a line; only a terminal breaks it between words, and a path never is broken."""
    soft = not (wrap and console.is_terminal)
    console.print(text, highlight=False, soft_wrap=soft, markup=False)


def live_table(rows: Sequence[Row], seconds: float, width: int) -> Table:
    """Return the table of jobs that still run, for a terminal of so many columns."""
    table = Table(title=f"Waiting for {len(rows)} jobs: {seconds:.1f} s", title_justify="left")
    table.add_column("job", min_width=20)
    table.add_column("status", min_width=11)
    table.add_column("polls", justify="right")
    table.add_column("to go", justify="right", min_width=6)
    if width >= _WITH_BARS:
        table.add_column("progress", min_width=_BAR)
    if width >= _WITH_SIZES:
        table.add_column("saved", justify="right", min_width=9)
    for row in rows:
        to_go = "" if row.ended or row.left is None else f"{row.left:.1f} s"
        saved = f"{row.size:,} B" if row.files else ""
        cells = (f"{row.number} {row.prompt}", _coloured(row.status), str(row.polls), to_go)
        table.add_row(*(*cells, bar(row), saved)[: len(table.columns)])
    return table


def bar(row: Row) -> ProgressBar:
    """Return a bar of how far a job is, by what was learnt from those before."""
    return ProgressBar(total=1.0, completed=1.0 if row.ended else row.progress, width=_BAR)


def _coloured(status: str) -> Text:
    return Text(status, style=_COLOURS.get(status, ""))

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
_PLAIN_WIDTH = 160  # columns, for a pipe or a file


def new_console() -> Console:
    """Return a console on stdout, wide enough for the table unless that is a terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console


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
        return _live_table(rows, time.monotonic() - start)

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
    table.add_column("billed calls", justify="right", min_width=6)
    table.add_column("file", no_wrap=True, overflow="ellipsis")
    table.add_column("size", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.number} {row.prompt}",
            _coloured(row.status),
            str(row.polls),
            str(row.billed),
            "\n".join(path.name for path in row.files) or "-",
            f"{row.size:,} B" if row.files else "-",
        )
    console.print(table)
    for row in rows:
        if row.error:
            _say(console, f"Job {row.number} FAILED and was not billed: {row.error}")
    billed, files = sum(row.billed for row in rows), sum(len(row.files) for row in rows)
    _say(
        console,
        f"Sum: {len(rows)} jobs, {sum(row.polls for row in rows)} polls, "
        f"{billed} billed calls, {files} files, {sum(row.size for row in rows):,} bytes\n"
        f"Asked for all {len(rows)} results once more: {billed_again - billed} further "
        "billed calls\n"
        f"The videos are in {directory}",
    )


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _live_table(rows: Sequence[Row], seconds: float) -> Table:
    table = Table(title=f"Waiting for {len(rows)} jobs: {seconds:.1f} s", title_justify="left")
    table.add_column("job", min_width=20)
    table.add_column("status", min_width=12)
    table.add_column("polls", justify="right")
    table.add_column("progress", min_width=_BAR)
    table.add_column("to go", justify="right", min_width=6)
    table.add_column("saved")
    for row in rows:
        saved = f"{row.size:,} B" if row.files else ""
        status = _coloured(row.status)
        to_go = "" if row.ended or row.left is None else f"{row.left:.1f} s"
        cells = (f"{row.number} {row.prompt}", status, str(row.polls), bar(row), to_go, saved)
        table.add_row(*cells)
    return table


def bar(row: Row) -> ProgressBar:
    """Return a bar of how far a job is, by what was learnt from those before."""
    return ProgressBar(total=1.0, completed=1.0 if row.ended else row.progress, width=_BAR)


def _coloured(status: str) -> Text:
    return Text(status, style=_COLOURS.get(status, ""))

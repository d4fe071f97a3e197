"""Lists of jobs: JSON Lines, fields with tabs, or lines that suit the width of a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelmax_async._cli.records import (
    as_line,
    entry_fields,
    entry_record,
    job_fields,
    missing_from,
    printable,
    usage_rows,
)
from modelmax_async._models import Job, LedgerEntry, LedgerUsage, StatusReport

_INDENT = 4


def print_job(job: Job, *, as_json: bool) -> None:
    """Print a job that was submitted: its id alone, for a shell, which gets it as it is."""
    shown = printable(job.request_id) if sys.stdout.isatty() else job.request_id
    print_line(as_line(job.to_dict()) if as_json else shown)


def print_jobs(jobs: Sequence[Job], *, as_json: bool) -> None:
    """Print a list of jobs."""
    for job in jobs:
        if as_json:
            print_line(as_line(job.to_dict()))
        else:
            _print_fields(job_fields(job))


def print_entries(entries: Sequence[LedgerEntry], *, as_json: bool) -> None:
    """Print a list of uncertain jobs, with what happened to each."""
    for entry in entries:
        if as_json:
            print_line(as_line(entry_record(entry)))
        else:
            _print_fields(entry_fields(entry))


def print_status(report: StatusReport, *, as_json: bool) -> None:
    """Print the status of a job, and why it failed."""
    if as_json:
        record = {"request_id": report.request_id, "status": report.status}
        print_line(as_line({**record, "error": report.error}))
    else:
        _print_fields([report.request_id, report.status, report.error or ""])


def print_usage(usage: LedgerUsage, *, as_json: bool) -> None:
    """Print the paid results by model, their total, and what the total does not contain."""
    if as_json:
        print_line(as_line(usage.to_dict()))
        return
    console = Console()
    if console.is_terminal:
        table = Table(box=None, pad_edge=False, header_style="")
        table.add_column("model", overflow="fold")
        for title in ("results", "videos", "seconds"):
            table.add_column(title, justify="right")
        for row in usage_rows(usage):
            table.add_row(*map(Text, row))
        console.print(table, highlight=False)
    else:
        for row in usage_rows(usage):
            print_line("\t".join(row))
    for line in missing_from(usage):
        sys.stderr.write(f"{line}\n")


def print_line(text: str) -> None:
    """Print a line on standard output, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _print_fields(fields: Sequence[str]) -> None:
    """Print the fields of a job: in one line if they fit, else the later ones below."""
    clean = [" ".join(printable(field).split()) for field in fields]
    console = Console()
    if not console.is_terminal:
        print_line("\t".join(clean))
        return
    first, *rest = [field for field in clean if field]
    line = "  ".join([first, *rest])
    if cell_len(line) <= console.width:
        print_line(line)
        return
    print_line(first)
    indented = Padding(Text("  ".join(rest)), (0, 0, 0, _INDENT))
    console.print(indented, highlight=False)

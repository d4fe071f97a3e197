"""The command line: all commands. Needs the `cli` extra."""

from __future__ import annotations

import click

from modelmax_async._cli import jobs, local, upkeep
from modelmax_async._cli.exits import EPILOG, Group
from modelmax_async._version import VERSION


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.version_option(VERSION, prog_name="modelmax")
def cli() -> None:
    """Make videos with ModelMax. Each finished job is billed once.

    Every command works on one ledger, the record of what was submitted and paid for. Results
    go to standard output, everything else to standard error.
    """


for _module in (jobs, upkeep, local):
    for _command in _module.COMMANDS:
        cli.add_command(_command)

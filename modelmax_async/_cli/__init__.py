"""The command line. Needs the `cli` extra."""

from modelmax_async._cli.commands import cli

__all__ = ["cli"]

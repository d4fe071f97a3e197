"""Exit codes, and how errors and interrupts end a command: one line, and no traceback."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import click

from modelmax_async._cli.requests import RequestError
from modelmax_async._errors import (
    AuthenticationError,
    ConfigurationError,
    InsufficientBalanceError,
    KeyConflictError,
    ModelMaxError,
    ResultUncertainError,
    SubmitUncertainError,
)
from modelmax_async._errors.sentences import plain, sentence


class Exit(IntEnum):
    """The exit codes; the help documents them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNCERTAIN = 3
    INTERRUPTED = 130  # 128 + SIGINT, as in shells


EPILOG = """\b
Exit codes:
  0    everything is done
  1    a job failed or timed out, or the command failed
  2    wrong usage, or a row that cannot be submitted
  3    a charge or a submit is uncertain: see unresolved
  130  interrupted; run the same command again

The API key is read from MODELMAX_API_KEY.
"""
INTERRUPTED = (
    "Interrupted: nothing is lost. Jobs that are submitted go on, and paid results are in the "
    "ledger. Run the same command again to go on."
)


class Failure(click.ClickException):
    """An error that ends the command, with its exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__("\n".join(map(plain, message.split("\n"))))
        self.exit_code = code  # type: ignore[misc]  # click reads it from the instance


def exit_of(error: BaseException) -> Exit:
    """Return the exit code for an error of one job, or of the whole command."""
    if isinstance(error, ResultUncertainError | SubmitUncertainError):
        return Exit.UNCERTAIN
    if isinstance(error, ConfigurationError | KeyConflictError | RequestError):
        return Exit.USAGE
    return Exit.FAILED


class Group(click.Group):
    """A group of commands whose expected errors take one line of standard error."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(f"\n{INTERRUPTED}", err=True)  # after the ^C of a terminal
            ctx.exit(Exit.INTERRUPTED)
        except BrokenPipeError:
            raise  # click ends without a word
        except (ModelMaxError, RequestError, OSError) as exc:
            raise Failure(_line(exc), exit_of(exc)) from exc


def _line(error: Exception) -> str:
    """Return the message of an error in one line, with what to do next."""
    text = " ".join(str(error).split())
    if isinstance(error, AuthenticationError | InsufficientBalanceError):
        text = f"{sentence(text)} Run the same command again to go on."
    return text

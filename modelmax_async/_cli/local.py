"""The commands that need no account: the demo, and the emulator."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from rich.console import Console

from modelmax_async._cli.demo import new_rows, run
from modelmax_async._cli.demo_view import progress, show_report
from modelmax_async._cli.exits import Exit, Failure
from modelmax_async.emulator.__main__ import main as run_emulator


@click.command(short_help="Run eight jobs on a local ModelMax.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to save the videos.  [default: a fresh temporary directory]",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 1000),
    default=1.0,
    show_default=True,
    help="How many times faster than normal the jobs run.",
)
def demo(directory: Path | None, speed: float) -> None:
    """Run eight jobs on a local ModelMax, and show the cost of each."""
    console = Console()
    # The demo connects to this machine only, which a proxy could not reach.
    os.environ["no_proxy"] = "127.0.0.1"
    try:
        with _target(directory) as target:
            click.echo(f"Saving the videos in {target}")
            asyncio.run(_demo(console, target, speed))
    except KeyboardInterrupt:
        click.echo("Interrupted: the local ModelMax has ended, and no job is left running.")
        click.get_current_context().exit(Exit.INTERRUPTED)


@click.command(short_help="Run a local ModelMax.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port; 0 selects a free one.",
)
@click.option(
    "--key", default="sk-emulator", show_default=True, help="The API key that it accepts."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Seconds that a job takes.",
)
@click.option(
    "--fail-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The share of jobs that fail, such as 0.1.",
)
@click.option(
    "--seed",
    type=int,
    help="Repeats the request ids, and which jobs fail.  [default: random; told at the end]",
)
@click.option(
    "--balance",
    type=float,
    help="US dollars of the account, which each billed call lowers.  [default: no limit]",
)
@click.option(
    "--price",
    type=click.FloatRange(min=0, max=1e6),
    default=1.0,
    show_default=True,
    help="US dollars that a billed call costs; the default is invented.",
)
def emulator(port: int, **options: object) -> None:
    """Run a local ModelMax until Ctrl-C.

    The first line printed is the base URL. At the end come the jobs, the billed calls, and the
    jobs that were billed more than once.
    """
    options["port"] = port
    given = {name: value for name, value in options.items() if value is not None}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    try:
        run_emulator(arguments)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        raise Failure(f"port {port} is in use: choose another with --port") from None


async def _demo(console: Console, directory: Path, speed: float) -> None:
    rows = new_rows(speed)
    with progress(console, rows) as tell:
        billed = await run(rows, directory, speed=speed, tell=tell)
    show_report(console, rows, directory, billed_again=billed)


@contextmanager
def _target(directory: Path | None) -> Iterator[Path]:
    """Make the directory; remove a temporary one that is still empty afterwards."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
        return
    made = Path(tempfile.mkdtemp(prefix="modelmax-demo-"))
    try:
        yield made
    finally:
        with suppress(OSError):  # it contains videos
            made.rmdir()


COMMANDS = (emulator, demo)

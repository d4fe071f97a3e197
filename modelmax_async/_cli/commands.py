"""The command line: a demo and a local ModelMax. Needs the `cli` extra."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from rich.console import Console

from modelmax_async._cli.demo import new_rows, run
from modelmax_async._cli.demo_view import new_console, progress, show_report
from modelmax_async._errors import ModelMaxError
from modelmax_async._version import VERSION
from modelmax_async.emulator.__main__ import main as run_emulator

_INTERRUPTED = 130  # 128 + SIGINT, as in shells


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="modelmax")
def cli() -> None:
    """Try the SDK on a local ModelMax: no account, no network, no API key."""


@cli.command()
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
    console = new_console()
    # The demo connects to this machine only, which a proxy could not reach.
    os.environ["no_proxy"] = "127.0.0.1"
    try:
        with _target(directory) as target:
            click.echo(f"Saving the videos in {target}")
            asyncio.run(_demo(console, target, speed))
    except KeyboardInterrupt:
        click.echo("Interrupted: the local ModelMax has ended, and no job is left running.")
        click.get_current_context().exit(_INTERRUPTED)
    except (ModelMaxError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


@cli.command()
@click.option("--port", default=0, show_default=True, help="Port; 0 selects a free one.")
@click.option("--seconds", default=2.0, show_default=True, help="Seconds that a job takes.")
def emulator(port: int, seconds: float) -> None:
    """Run a local ModelMax until Ctrl-C; its key is sk-emulator."""
    run_emulator(["--port", str(port), "--seconds", str(seconds)])


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

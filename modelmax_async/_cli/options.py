"""The options that several commands share, and the client that they describe."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
import click
import platformdirs

from modelmax_async._cli.exits import Exit, Failure
from modelmax_async._cli.formats import COLUMNS, cell, check_names
from modelmax_async._client import AsyncQueueClient
from modelmax_async._download.names import read_template
from modelmax_async.events import Hook, ResultUncertain
from modelmax_async.ledger import SQLiteLedger

F = TypeVar("F", bound=Callable[..., Any])
#: The ledger of commands without ``--ledger``.
LEDGER = platformdirs.user_data_path("modelmax", appauthor=False) / "ledger.db"
#: The parameters that ``--parameter`` sets.
PARAMETERS = tuple(name for name in COLUMNS if name not in {"prompt", "model", "key"})
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@attrs.frozen
class Target:
    """Where videos are saved, and the template of their names."""

    directory: Path
    name: str | None = None


@attrs.frozen
class Session:
    """What a command works with: an account, a ledger and a form of output."""

    base_url: str | None
    ledger: Path
    as_json: bool
    model: str | None = None

    @asynccontextmanager
    async def client(self, hooks: Sequence[Hook] = ()) -> AsyncIterator[AsyncQueueClient]:
        """Open a client on the ledger; the directory of the default ledger is made."""
        if not os.environ.get("MODELMAX_API_KEY"):
            raise Failure("no API key: set MODELMAX_API_KEY", Exit.USAGE)
        if self.ledger == LEDGER:
            make = functools.partial(LEDGER.parent.mkdir, 0o700, parents=True, exist_ok=True)
            await asyncio.to_thread(make)
        async with self._client(None, hooks) as client:
            yield client

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[AsyncQueueClient]:
        """Open a client on a ledger that must exist, for what needs no call and no key."""
        if not await asyncio.to_thread(self.ledger.is_file):
            raise Failure(f"the ledger {self.ledger} does not exist", Exit.USAGE)
        api_key = os.environ.get("MODELMAX_API_KEY") or "unused"
        async with self._client(api_key, ()) as client:
            yield client

    def _client(self, api_key: str | None, hooks: Sequence[Hook]) -> AsyncQueueClient:
        logging.getLogger("modelmax_async").addFilter(_is_not_reported)
        return AsyncQueueClient(
            api_key=api_key,
            base_url=self.base_url,
            ledger=SQLiteLedger(self.ledger),
            hooks=hooks,
        )


def _is_not_reported(record: logging.LogRecord) -> bool:
    """Whether a record is to be logged: an uncertain job is reported by its outcome."""
    return getattr(record, "modelmax_event", None) != ResultUncertain.__name__


def age(_context: click.Context, _parameter: click.Parameter, text: str) -> timedelta:
    """Convert a time such as ``30d``, as a callback of an option."""
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text, re.ASCII)
    if found is None:
        raise click.BadParameter(f"must be an age such as 12h or 30d, got {text!r}")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _template(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> str | None:
    """Check the template of the names of files."""
    try:
        read_template(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None
    return text


_name_option = click.option(
    "--name",
    metavar="TEMPLATE",
    callback=_template,
    help="The names of the files, made of {key}, {id}, {digest}, {index}, {model} and "
    "{suffix}.  [default: {key}-{digest}-{index}.{suffix}]",
)


def session_options(function: F) -> F:
    """Add ``--ledger``, ``--base-url`` and ``--json``, passed on as ``session``."""

    @functools.wraps(function)
    def made(**options: Any) -> Any:
        given = {name: options.pop(name) for name in ("base_url", "ledger", "as_json")}
        session = Session(**given, model=options.pop("model", None))
        return function(session=session, **options)

    for option in reversed(_SESSION):
        made = option(made)
    return cast("F", made)


_SESSION = (
    click.option(
        "--ledger",
        type=click.Path(dir_okay=False, path_type=Path),
        default=LEDGER,
        help=f"The file that records every charge.  [default: {LEDGER}]",
    ),
    click.option(
        "--base-url",
        metavar="URL",
        help="The server.  [default: MODELMAX_API_BASE_URL, else https://api.modelmax.io]",
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="Print JSON Lines, for programs to read."
    ),
)
model_option = click.option("--model", help="The model, such as veo-3.")
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=1800.0,
    show_default=True,
    help="Seconds to wait for a job.",
)


def target_options(*, required: bool = False) -> Callable[[F], F]:
    """Add ``--directory`` and ``--name``, passed on as ``target``, ``None`` without them."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def made(**options: Any) -> Any:
            directory, name = options.pop("directory"), options.pop("name")
            if directory is None and name is not None:
                raise click.UsageError("--name is for the files in a --directory")
            target = None if directory is None else Target(directory, name)
            return function(target=target, **options)

        add_directory = click.option(
            "--directory", type=_DIRECTORY, required=required, help="Where to save the videos."
        )
        return cast("F", add_directory(_name_option(made)))

    return decorate


def parameter_option(function: F) -> F:
    """Add ``--parameter NAME=VALUE``, passed on as a dict ``parameters``."""
    return click.option(
        "-P",
        "--parameter",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_parameters,
        help="A parameter of every video that does not set it itself: "
        f"{', '.join(PARAMETERS)}.",
    )(function)


def _parameters(
    _context: click.Context, _parameter: click.Parameter, given: Sequence[str]
) -> dict[str, Any]:
    pairs = [text.partition("=") for text in given]
    try:
        check_names("parameter", [name for name, _, _ in pairs], PARAMETERS)
        found = {name: cell(name, value) for name, _, value in pairs}
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None
    if "image" in found:  # relative to the current directory, not to a file of prompts
        found["image"] = os.path.abspath(found["image"])  # noqa: PTH100 - a row has a path as text
    return found

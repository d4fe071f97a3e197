"""The command line in process, and an emulator in a thread of its own for it to use."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import FAST, IMPATIENT, KEY

from modelmax_async import AsyncQueueClient
from modelmax_async._cli import commands, options
from modelmax_async.emulator import Emulator


@contextmanager
def served(emulator: Emulator) -> Iterator[str]:
    """Serve an emulator in a thread, because a command runs an event loop of its own."""
    ready: Future[str] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with emulator.serve() as url:
            ready.set_result(url)
            await stop.wait()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.result(10)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def poll_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands poll with short intervals, instead of those for real jobs."""
    fast = functools.partial(AsyncQueueClient, poll=FAST, retry=IMPATIENT)
    monkeypatch.setattr(options, "AsyncQueueClient", fast)


def run(*arguments: str, stdin: str | bytes | None = None, **environment: str) -> Result:
    """Run a command with the emulator's key."""
    environ = {"MODELMAX_API_KEY": KEY, "COLUMNS": "80"} | environment
    return CliRunner().invoke(commands.cli, arguments, input=stdin, env=environ)


def records(text: str) -> list[dict[str, Any]]:
    """Return the objects of JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]

"""Starting the server and other children, and reading what they counted."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
MODEL = "veo-3"


class LocalServer:
    """The server of `benchmarks.server`, for as long as the ``with`` block lasts.

    Args:
        lifetime: seconds after which the server ends by itself, whatever happens here.
    """

    def __init__(self, lifetime: float = 900.0) -> None:
        command = [sys.executable, "-m", "benchmarks.server", "--lifetime", str(lifetime)]
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def reset(self, **options: float) -> dict[str, Any]:
        """Set the server back to zero, with options such as ``latency``."""
        return control(self.url, f"/_reset?{urlencode(options)}")

    def stats(self) -> dict[str, Any]:
        """Return what the server counted since the last reset."""
        return control(self.url, "/_stats")


def control(url: str, path: str) -> dict[str, Any]:
    """Ask the server at this URL for its counters, on a connection of its own; it blocks."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


def in_background(work: Coroutine[Any, Any, None]) -> threading.Thread:
    """Run a coroutine in an event loop of a thread that ends with the process.

    A loop with ten thousand tasks at work may not come round to a timer for minutes: what
    is to be measured for a bounded time cannot have its clock in there.
    """
    thread = threading.Thread(target=asyncio.run, args=(work,), daemon=True)
    thread.start()
    return thread


def finish(found: dict[str, Any]) -> NoReturn:
    """Print the JSON that `in_child` reads, and end at once, whatever still runs."""
    print(json.dumps(found), flush=True)
    os._exit(0)


def in_child(module: str, *arguments: object, timeout: float = 300.0) -> dict[str, Any]:
    """Run a module in a fresh process, and return the JSON that it prints last."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(  # noqa: S603 - our own module
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=timeout, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found

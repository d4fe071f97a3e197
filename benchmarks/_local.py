"""Start the server and other child processes, and read their counters."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
MODEL = "veo-3"


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Run a server of this package as a child process, and yield its base URL.

    It prints its port, and exits when its standard input is closed: see `end_of_parent`.
    """
    child = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.stdin.close()
        child.wait(10)


def end_of_parent(lifetime: float) -> asyncio.Event:
    """Return an event that is set when standard input is closed, or after so many seconds."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.call_later(lifetime, over.set)

    def input_is_readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            over.set()  # the parent process has exited

    loop.add_reader(sys.stdin.fileno(), input_is_readable)
    return over


class LocalServer:
    """Runs the server of `benchmarks.server` during a ``with`` block.

    Args:
        lifetime: seconds after which the server exits by itself in any case.
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
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def reset(self, **options: float) -> dict[str, Any]:
        """Reset the server's counters and set options such as ``latency``."""
        return control(self.url, f"/_reset?{urlencode(options)}")

    def stats(self) -> dict[str, Any]:
        """Return the server's counters since the last reset."""
        return control(self.url, "/_stats")

    def bills(self) -> dict[str, int]:
        """Return how often each job was billed since the last reset."""
        return control(self.url, "/_bills")


def control(url: str, path: str) -> dict[str, Any]:
    """Request the server's counters on a new connection. This call blocks."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


def in_background(work: Coroutine[Any, Any, None]) -> threading.Thread:
    """Run a coroutine in the event loop of a daemon thread.

    An event loop that runs ten thousand tasks may delay a timer for minutes, so the clock of a
    measurement runs outside that loop.
    """
    thread = threading.Thread(target=asyncio.run, args=(work,), daemon=True)
    thread.start()
    return thread


def finish(found: dict[str, Any]) -> NoReturn:
    """Print the JSON that `in_child` reads, and exit at once, even if threads still run."""
    print(json.dumps(found), flush=True)
    os._exit(0)


def in_child(module: str, *arguments: object, timeout: float = 300.0) -> dict[str, Any]:
    """Run a module in a new process, and return the JSON of its last line."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(  # noqa: S603 - our own module
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=timeout, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found

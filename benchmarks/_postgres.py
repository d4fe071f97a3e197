"""A real PostgreSQL in a temporary directory, and a ledger on it that counts its moves."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelmax_async import PostgresLedger
from modelmax_async.ledger import Key, Move, Store, SubmitKey

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # contains the server

from postgres_server import Server

__all__ = ["CountingLedger", "Server", "postgres"]


@contextmanager
def postgres() -> Iterator[Server]:
    """Run a PostgreSQL server with its default settings: each commit is synced to the disk."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        data = Path(directory, "data")
        data.mkdir()
        server = Server(data)
        try:
            yield server
        finally:
            server.stop()


class CountingLedger(PostgresLedger):
    """Counts the moves that it was asked for, and notes when a result began to be stored."""

    moves = 0

    def __init__(self, dsn: str, **options: Any) -> None:
        super().__init__(dsn, **options)
        self.stores: dict[str, float] = {}

    async def apply(self, key: Key | SubmitKey, move: Move) -> Any:
        """Count a move, and make it."""
        self.moves += 1
        if isinstance(move, Store):
            self.stores[move.job.request_id] = time.monotonic()
        return await super().apply(key, move)

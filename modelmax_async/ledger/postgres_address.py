"""Where a PostgreSQL server is, and how a ledger connects to it."""

from __future__ import annotations

from typing import Any

import asyncpg
import attrs

from modelmax_async.ledger.postgres_schema import prepare

#: Milliseconds that a statement waits for a lock.
_LOCK = 500
_SETTINGS = """
SELECT set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false),
  set_config('idle_in_transaction_session_timeout', $2, false),
  CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'on', false) END
"""


@attrs.frozen(repr=False)
class Address:
    """Where the server is. The DSN, which may hold a password, is shown nowhere."""

    dsn: str
    where: str
    schema: str
    timeout: float

    async def connect(self) -> Any:
        """Return a new connection with the settings of a ledger."""
        connection = await asyncpg.connect(self.dsn, timeout=self.timeout / 2)
        try:
            limit = f"{self.timeout * 1000:.0f}ms"
            await connection.fetchrow(_SETTINGS, f"{_LOCK}ms", limit)
            await prepare(connection, self.schema)
        except BaseException:
            connection.terminate()
            raise
        return connection

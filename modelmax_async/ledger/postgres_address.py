"""Where a PostgreSQL server is, and how a ledger connects to it."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import attrs

from modelmax_async.ledger.postgres_errors import Fault, fault
from modelmax_async.ledger.postgres_schema import prepare

#: Milliseconds that a statement waits for a lock.
_LOCK = 500
_SETTINGS = """
SELECT set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false),
  set_config('idle_in_transaction_session_timeout', $2, false),
  CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'on', false) END
"""


@attrs.define(repr=False)
class Address:
    """Where the server is. The DSN, which may hold a password, is shown nowhere."""

    dsn: str
    where: str
    schema: str
    timeout: float
    #: One for each host, the one that worked last before the others.
    _hosts: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._hosts = _by_host(self.dsn)

    async def connect(self) -> Any:
        """Return a new connection with the settings of a ledger, to the first host that works.

        A host that does not answer takes its share of half the timeout, so that the next ones
        have theirs.

        Raises:
            Exception: of asyncpg or the network, for one of the hosts.
            LedgerError: for tables of a newer version.
        """
        hosts = self._hosts
        error: Exception = OSError("no host")
        clock = asyncio.get_running_loop().time
        until = clock() + self.timeout / 2
        for at, host in enumerate(hosts):
            try:
                async with asyncio.timeout((until - clock()) / (len(hosts) - at)):
                    connection = await self._connect(host)
            except Exception as exc:
                if fault(exc) is not Fault.LOST:
                    raise
                if isinstance(error, OSError):  # what a server says tells more
                    error = exc
            else:
                self._hosts = [host, *(each for each in hosts if each != host)]
                return connection
        raise error

    async def _connect(self, host: str) -> Any:
        connection = await asyncpg.connect(host)
        try:
            limit = f"{max(1, round(self.timeout * 1000))}ms"  # 0 would be no limit
            await connection.fetchrow(_SETTINGS, f"{_LOCK}ms", limit)
            await prepare(connection, self.schema)
        except BaseException:
            connection.terminate()
            raise
        return connection


def _by_host(dsn: str) -> list[str]:
    """Return the DSN for each of its hosts: of several, only the primary is of use."""
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    query = parts.query
    if "," not in hosts or "port=" in query:  # one, or what only asyncpg can take apart
        return [dsn]
    if "target_session_attrs=" not in query:
        query = f"{query}&target_session_attrs=read-write".lstrip("&")
    return [
        parts._replace(netloc=f"{login}{at}{host}", query=query).geturl()
        for host in hosts.split(",")
    ]

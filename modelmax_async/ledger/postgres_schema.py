"""The tables of a PostgreSQL ledger, and their upgrade."""

from __future__ import annotations

from typing import Any

from modelmax_async._errors import LedgerError

#: The states in which a job has neither a stored result nor a failure; see the index.
UNFINISHED = "state IN ('known', 'claimed', 'armed', 'uncertain')"
_STATES = (
    "'known', 'claimed', 'armed', 'stored', 'failed', 'uncertain', 'abandoned', 'delivered'"
)

#: The steps from each version to the next; the first one makes the tables.
UPGRADES: tuple[str, ...] = (
    f"""
    CREATE TABLE {{schema}}.entries (
      digest bytea PRIMARY KEY,
      position bigint GENERATED ALWAYS AS IDENTITY,
      origin text NOT NULL,
      model text NOT NULL,
      request_id text NOT NULL,
      status_url text NOT NULL,
      response_url text NOT NULL,
      submitted_at double precision,
      submit_key text,
      state text NOT NULL CHECK (state IN ({_STATES})),
      since double precision NOT NULL,
      owner text,
      attempt text,
      lease_until double precision NOT NULL,
      lease double precision NOT NULL,
      resting text CHECK (resting IN ({_STATES})),
      decided text,
      phase text CHECK (phase IN ('sent', 'answered')),
      cause text,
      error text,
      acknowledged boolean NOT NULL,
      saved_at double precision,
      body bytea
    );
    CREATE INDEX entries_unfinished ON {{schema}}.entries (position) WHERE {UNFINISHED};
    CREATE TABLE {{schema}}.submissions (
      digest bytea PRIMARY KEY,
      job_digest bytea,
      origin text NOT NULL,
      submit_key text NOT NULL,
      fingerprint text NOT NULL,
      since double precision NOT NULL,
      attempt text,
      lease_until double precision NOT NULL,
      lease double precision NOT NULL,
      model text,
      request_id text,
      status_url text,
      response_url text
    );
    CREATE TABLE {{schema}}.durations (
      digest bytea PRIMARY KEY,
      origin text NOT NULL,
      model text NOT NULL,
      version integer NOT NULL,
      record bytea NOT NULL
    );
    CREATE TABLE {{schema}}.writers (
      id uuid PRIMARY KEY,
      number bigint NOT NULL,
      since timestamptz NOT NULL DEFAULT now()
    );
    """,
    "ALTER TABLE {schema}.writers ADD COLUMN epoch bigint NOT NULL DEFAULT 0;",
)
_VERSION = "SELECT version FROM {schema}.ledger"
#: Read from the catalogue: to_regclass() would not see what another session has just made.
_EXISTS = """
SELECT EXISTS (
  SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
  WHERE nspname = $1 AND relname = 'ledger'
)
"""
_HAS_SCHEMA = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)"
#: Only one process at a time makes or upgrades the tables.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"


async def prepare(connection: Any, schema: str) -> None:
    """Make the tables, or upgrade them, if that is not done yet.

    Args:
        connection: a connection of asyncpg.
        schema: the name of the schema.

    Raises:
        LedgerError: for tables of a newer version.
    """
    if await _version(connection, schema) == len(UPGRADES):
        return
    async with connection.transaction():
        await connection.execute(_LOCK, f"modelmax_async {schema}")
        version = await _version(connection, schema)
        if version > len(UPGRADES):
            raise LedgerError(
                f"the ledger in schema {schema!r} has version {version}, but this version of "
                f"modelmax_async supports {len(UPGRADES)}. Nothing was changed and no billed "
                "call was made: upgrade modelmax_async, or use another schema"
            )
        if version == len(UPGRADES):
            return
        await _upgrade(connection, schema, version)


async def _version(connection: Any, schema: str) -> int:
    """Return the version of the tables, 0 if there are none."""
    if not await connection.fetchval(_EXISTS, schema):
        return 0
    version: int = await connection.fetchval(_VERSION.format(schema=f'"{schema}"'))
    return version


async def _upgrade(connection: Any, schema: str, version: int) -> None:
    quoted = f'"{schema}"'
    if version == 0:
        if not await connection.fetchval(_HAS_SCHEMA, schema):
            await connection.execute(f"CREATE SCHEMA {quoted}")
        await connection.execute(f"CREATE TABLE {quoted}.ledger AS SELECT 0 AS version")
    for script in UPGRADES[version:]:
        await connection.execute(script.replace("{schema}", quoted))
    query = f"UPDATE {quoted}.ledger SET version = $1"  # noqa: S608 - checked
    await connection.execute(query, len(UPGRADES))

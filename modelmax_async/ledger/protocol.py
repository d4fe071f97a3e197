"""The protocol that every ledger implements."""

from collections.abc import Collection
from typing import NamedTuple, Protocol

from modelmax_async._models import LedgerEntry, LedgerState
from modelmax_async.ledger.moves import Move
from modelmax_async.ledger.transitions import Step


class Key(NamedTuple):
    """Whose job it is: the origin of the base URL, and the request id."""

    origin: str
    request_id: str


class Ledger(Protocol):
    """Where a client records each billed call. Three methods; see the package's text.

    All of them raise `modelmax_async.LedgerError`, and only that, when the store fails.
    """

    async def apply(self, key: Key, move: Move) -> Step | None:
        """Read the entry, take one `step`, and write it back: atomic, and durable on return."""
        ...

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        """Return the entries of an origin in these states, oldest first, without bodies.

        An armed entry whose lease has run out is listed as uncertain: see `observed`.
        """
        ...

    async def aclose(self) -> None:
        """Let go of files and connections. Used again, the ledger opens them again."""
        ...

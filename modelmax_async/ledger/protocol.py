"""The protocol that every ledger implements."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import attrs

from modelmax_async._models import LedgerEntry, LedgerState, Value
from modelmax_async._reprs import always_shown
from modelmax_async.ledger.moves import Move
from modelmax_async.ledger.submissions import SubmitStep
from modelmax_async.ledger.transitions import Step


class Key(NamedTuple):
    """The key of an entry.

    ``origin`` is scheme, host and port of the base URL, ``request_id`` the server's id.
    """

    origin: str
    request_id: str


@always_shown
@attrs.frozen
class SubmitKey(Value):
    """The key of a submit, in a ledger.

    ``origin`` is scheme, host and port of the base URL, ``key`` what was given to `submit`. It
    is never equal to the `Key` of a job.
    """

    origin: str
    key: str


class Ledger(Protocol):
    """The store in which a client records each billed call; see `modelmax_async.ledger`.

    All three methods raise `modelmax_async.LedgerError`, and nothing else, if the store fails.
    """

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        """Read the entry, take one `step` and write it back, atomically and durably.

        Args:
            key: the key of a job's entry, or that of a submission.
            move: the move to make.

        Returns:
            What `step` returned. If that says ``deleted``, the entry is gone.
        """
        ...

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        """Return the entries of an origin in these states, oldest first, without bodies.

        A submission whose job has no entry, or one that is known and not acknowledged, counts
        as the entry that `as_known` makes of it: the process that submitted it may have ended
        before it recorded the job.

        A row that cannot be read must not hide the others: a ledger may return `Entries`, which
        names what is left out.

        Args:
            origin: scheme, host and port of a base URL.
            states: the states as `observed` shows them: an armed entry whose lease has run
                out is listed as uncertain.
        """
        ...

    async def aclose(self) -> None:
        """Close files and connections. The next use of the ledger opens them again."""
        ...


@runtime_checkable
class KeepsDurations(Protocol):
    """The optional part of a ledger that keeps what clients learn about how long jobs take.

    The records are opaque to the ledger, and have a few kilobytes at most. A ledger that loses
    them loses no money: the next client learns anew.
    """

    async def load_durations(self, origin: str, version: int) -> Mapping[str, bytes]:
        """Return the records of an origin by model.

        Args:
            origin: scheme, host and port of a base URL.
            version: the version of the records; those of other versions are left out.
        """
        ...

    async def add_durations(
        self, origin: str, model: str, version: int, add: Callable[[bytes | None], bytes]
    ) -> bytes:
        """Replace one record by ``add(record)``, atomically, and return the new one.

        Args:
            origin: scheme, host and port of a base URL.
            model: the model that the record is about.
            version: the version of the record. Records of other versions stay.
            add: a pure function of the record, or of ``None`` if there is none.
        """
        ...

"""The base of all errors, and those about the client itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from modelmax_async._models import Job

E = TypeVar("E", bound=BaseException)


def _restore(
    cls: type[ModelMaxError], args: tuple[Any, ...], state: dict[str, Any]
) -> ModelMaxError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def fresh(error: E) -> E:
    """Return a copy to raise: one for each waiter, so that tracebacks do not pile up."""
    if not isinstance(error, ModelMaxError):
        return error
    copy = _restore(type(error), error.args, error.__dict__)
    copy.__cause__ = error.__cause__
    copy.__suppress_context__ = True
    return copy  # type: ignore[return-value]  # it is of the error's own type


class ModelMaxError(Exception):
    """The base of every error here.

    Attributes:
        job: the job it is about, where there is one: keep it, and go on from it.
    """

    def __init__(self, message: str, *, job: Job | None = None) -> None:
        super().__init__(message)
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.args == other.args and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), str(self)))


class ConfigurationError(ModelMaxError, ValueError):
    """The client was set up with something unusable; no request was made."""


class ClientStateError(ModelMaxError, RuntimeError):
    """The client is closed, or was used from another event loop than its own."""


class DownloadError(ModelMaxError):
    """A video could not be saved. The paid result is untouched: download it again.

    Attributes:
        url: where the video is, without credentials.
        part: the path of the resumable ``.part`` file, ``None`` when there is none.
    """

    def __init__(
        self, message: str, *, url: str = "", part: str | None = None, job: Job | None = None
    ) -> None:
        super().__init__(message, job=job)
        self.url = url
        self.part = part


class LedgerError(ModelMaxError):
    """The ledger could not be read or written. Without it no billed call is made."""

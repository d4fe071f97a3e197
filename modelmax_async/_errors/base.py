"""The base of all errors, and the errors about the client itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from modelmax_async._errors.sentences import plain

if TYPE_CHECKING:
    from modelmax_async._models import Job

E = TypeVar("E", bound=BaseException)


def fresh(error: E) -> E:
    """Return a copy to raise in one of several waiters, so that no traceback accumulates."""
    if not isinstance(error, ModelMaxError):
        return error
    copy = error._restored(error.args, error.__dict__)  # noqa: SLF001 - of this module
    copy.__cause__ = error.__cause__
    copy.__suppress_context__ = True
    return copy


class ModelMaxError(Exception):
    """The base of all errors of the package.

    Attributes:
        job: the job that it is about, ``None`` if it is about none. Keep it: every later
            call takes it.
    """

    def __init__(self, message: str, *, job: Job | None = None) -> None:
        super().__init__(plain(message))  # an id or a path may have any character
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        return self._restored, (self.args, self.__dict__)

    @classmethod
    def _restored(cls, args: tuple[Any, ...], attributes: dict[str, Any]) -> Self:
        """Return the error of a pickle or a copy; missing attributes get their default.

        Stored pickles refer to this method by name.
        """
        error = cls.__new__(cls, *args)
        error.args = args
        error.__dict__.update(cls.__init__.__kwdefaults__ or {}, **attributes)
        return error

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.args == other.args and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), str(self)))


class ConfigurationError(ModelMaxError, ValueError):
    """An argument of the client is unusable. No request was sent."""


class ClientStateError(ModelMaxError, RuntimeError):
    """The client is closed, or was used from another event loop than its own."""


class KeyConflictError(ModelMaxError, ValueError):
    """The key of a submit belongs to another request, so that this one has no job.

    Attributes:
        key: the key.
    """

    def __init__(self, message: str, *, key: str = "", job: Job | None = None) -> None:
        super().__init__(message, job=job)
        self.key = key


class DownloadError(ModelMaxError):
    """A video could not be saved. The paid result is not affected: download it again.

    Attributes:
        url: the URL of the video, without credentials.
        part: the path of the ``.part`` file that the next call resumes, ``None`` without one.
    """

    def __init__(
        self, message: str, *, url: str = "", part: str | None = None, job: Job | None = None
    ) -> None:
        super().__init__(message, job=job)
        self.url = url
        self.part = part


class LedgerError(ModelMaxError):
    """The ledger could not be read or written. No billed call is made without it."""

"""The dicts of the errors that an `Outcome` holds.

The dict of an error names its class and the classes above it. A dict never decides what is
imported: a class that is not one of this package becomes the nearest one that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs

from modelmax_async import _errors as errors
from modelmax_async._models.entries import Phase
from modelmax_async._models.jobs import Job, Status
from modelmax_async._models.results import Outcome

if TYPE_CHECKING:
    import cattrs

#: What the dict of each error has, beside the attributes.
_EVERY = {"type": str, "bases": tuple[str, ...], "text": str, "notes": tuple[str, ...]}
#: The attributes that have another name in a dict.
_NAMES = {"notes": "__notes__"}
#: The attributes of each class, without those of the classes above it.
_ATTRIBUTES: dict[type[errors.ModelMaxError], dict[str, Any]] = {
    errors.ModelMaxError: {"job": Job | None},
    errors.KeyConflictError: {"key": str},
    errors.DownloadError: {"url": str, "part": str | None},
    errors.TransportError: {"maybe_sent": bool, "host": str | None},
    errors.APIError: {
        "status_code": int,
        "error_type": str | None,
        "message": str,
        "retry_after": float | None,
        "details": Mapping[str, Any],
        "host": str | None,
    },
    errors.InvalidResponseError: {"body": bytes},
    errors.JobError: {"job": Job, "last_status": Status | str | None},
    errors.JobFailedError: {"error": str},
    errors.ResultUncertainError: {"phase": Phase, "since": float, "attempt": str | None},
    errors.GatherError: {
        "exceptions": list[Exception],
        "outcomes": tuple[Outcome, ...],
    },
}
_CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.ModelMaxError)
}


def write_error(converter: cattrs.Converter, error: Exception) -> dict[str, Any]:
    """Return the dict of an error; of one from elsewhere, only its class and its text."""
    kind = type(error)
    if not isinstance(error, errors.ModelMaxError):
        return {"type": kind.__name__, "bases": [], "text": f"{kind.__name__}: {error}"}
    bases = [base.__name__ for base in kind.__mro__[1:] if _CLASSES.get(base.__name__) is base]
    text = str(error.args[0]) if error.args else ""
    written: dict[str, Any] = {"type": kind.__name__, "bases": bases, "text": text}
    for field in attrs.fields(_record(_nearest(kind.__name__, bases).__name__)):
        value = getattr(error, _NAMES.get(field.name, field.name), field.default)
        written.setdefault(field.name, converter.unstructure(value))
    return written


def read_error(converter: cattrs.Converter, data: Any) -> errors.ModelMaxError:
    """Return the error of a dict, of the nearest class that this package has.

    Raises:
        ValueError: if an attribute is missing or unusable.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"must be an object, got {data!r:.100}")  # noqa: TRY004 - the documented error
    named = converter.structure(data, _record("ModelMaxError"))
    kind = _nearest(named.type, named.bases)
    fields = attrs.asdict(converter.structure(data, _record(kind.__name__)), recurse=False)
    args = [fields.pop("text"), *([fields.pop("exceptions")] if "exceptions" in fields else [])]
    notes = fields.pop("notes")
    del fields["type"], fields["bases"]
    error = kind._restored(tuple(args), fields)  # noqa: SLF001 - as a pickle does
    for note in notes:
        error.add_note(note)
    return error


def _nearest(name: str, bases: Iterable[str]) -> type[errors.ModelMaxError]:
    return next((_CLASSES[n] for n in (name, *bases) if n in _CLASSES), errors.ModelMaxError)


@cache
def _record(name: str) -> Any:
    """Return a class whose fields are the attributes of an error, with types and defaults."""
    kind, types = _CLASSES[name], dict(_EVERY)
    for base in reversed(kind.__mro__):
        types |= _ATTRIBUTES.get(base, {})
    defaults = {"bases": (), "notes": (), **(kind.__init__.__kwdefaults__ or {})}
    if not issubclass(kind, errors.JobError):
        defaults["job"] = None
    fields = {
        field: attrs.field(type=of, default=defaults.get(field, attrs.NOTHING))
        for field, of in types.items()
    }
    return attrs.make_class(name, fields, kw_only=True)

"""The dicts of the values: one cattrs converter writes and reads them all.

A class is compiled at its first use. The converter is strict where cattrs would convert: a
number is not taken for a string, nor a string for a number.
"""

from __future__ import annotations

import binascii
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import attrs

from modelmax_async._models.error_dicts import read_error, write_error
from modelmax_async._models.jobs import Status, as_status
from modelmax_async._models.requests import VideoParameters
from modelmax_async._models.results import Failed, Outcome, Succeeded, kind_of
from modelmax_async._models.value import Value
from modelmax_async._validators import is_number

if TYPE_CHECKING:
    import cattrs

V = TypeVar("V", bound=Value)
_PARAMETERS = [field.name for field in attrs.fields(VideoParameters) if field.name != "extra"]


def write(value: Value) -> dict[str, Any]:
    """Return the dict of a value: see `Value.to_dict`."""
    written: dict[str, Any] = converter().unstructure(value)
    return written


def read(data: Any, kind: type[V]) -> V:
    """Return the value of a dict: see `Value.from_dict`.

    Raises:
        ValueError: names the class and the field that is missing or unusable.
    """
    try:
        return converter().structure(data, kind)
    except Exception as exc:
        raise ValueError(_explained(exc, kind.__name__)) from exc


@cache
def converter() -> cattrs.Converter:
    """Return the converter; a class is compiled at its first use."""
    import cattrs  # noqa: PLC0415 - a tenth of the package's import time
    from cattrs.gen import (  # noqa: PLC0415 - as above
        make_dict_structure_fn,
        make_dict_unstructure_fn,
    )

    made = cattrs.Converter(unstruct_collection_overrides={tuple: list})

    @made.register_structure_hook_factory(_is_value)
    def _value(kind: Any) -> Callable[[Any, Any], Any]:
        if kind is Outcome:
            return lambda data, kind: made.structure(data, kind_of(_object(data, kind)))
        of_fields = make_dict_structure_fn(kind, made)
        return lambda data, kind: of_fields(_object(data, kind), kind)

    made.register_structure_hook(VideoParameters, _read_parameters)
    made.register_unstructure_hook(VideoParameters, _write_parameters)
    made.register_structure_hook_func(_is_error, lambda data, _: read_error(made, data))
    made.register_unstructure_hook_func(_is_error, lambda error: write_error(made, error))
    made.register_structure_hook(bytes, _read_bytes)
    made.register_unstructure_hook(bytes, lambda data: b64encode(data).decode("ascii"))
    made.register_structure_hook(Path, lambda data, kind: Path(_text(data, kind)))
    made.register_structure_hook(str, _text)
    made.register_structure_hook_func(_is_status, _read_status)
    made.register_structure_hook(bool, _checked("true or false", bool))
    made.register_structure_hook(int, _read_number)
    made.register_structure_hook(float, _read_number)
    made.register_structure_hook_func(lambda kind: _origin(kind) is Literal, _read_word)
    made.register_structure_hook_func(lambda kind: _origin(kind) is Mapping, _read_mapping)
    made.register_structure_hook_func(_is_mapping_of_values, partial(_read_values, made))
    for kind in (Succeeded, Failed):  # with the field that is always None; it compiles them
        whole = make_dict_unstructure_fn(kind, made, _cattrs_include_init_false=True)
        made.register_unstructure_hook(kind, whole)
    return made


def _is_value(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Value)


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _checked(what: str, kind: type) -> Callable[[Any, Any], Any]:
    def check(data: Any, _: Any) -> Any:
        if not isinstance(data, kind):
            raise ValueError(f"must be {what}, got {data!r:.100}")  # noqa: TRY004 - the documented error
        return data

    return check


_text = _checked("a string", str)
_object = _checked("an object", Mapping)


def _is_status(kind: Any) -> bool:
    return kind in (Status | str, Status | str | None)


def _origin(kind: Any) -> Any:
    return get_origin(kind)


def _read_status(data: Any, kind: Any) -> Status | str | None:
    return (
        None if data is None and type(None) in get_args(kind) else as_status(_text(data, kind))
    )


def _read_mapping(data: Any, kind: Any) -> dict[str, Any]:
    return dict(_object(data, kind))


def _is_mapping_of_values(kind: Any) -> bool:
    return _origin(kind) is Mapping and _is_value(get_args(kind)[1])


def _read_values(made: cattrs.Converter, data: Any, kind: Any) -> dict[str, Any]:
    of_value = get_args(kind)[1]
    return {name: made.structure(each, of_value) for name, each in _object(data, kind).items()}


def _read_number(data: Any, kind: Any) -> Any:
    if not is_number(data) or (kind is int and not isinstance(data, int)):
        raise ValueError(
            f"must be {'an integer' if kind is int else 'a number'}, got {data!r:.100}"
        )
    return data


def _read_word(data: Any, kind: Any) -> Any:
    words = get_args(kind)
    if data not in words:
        raise ValueError(f"must be {' or '.join(map(repr, words))}, got {data!r:.100}")
    return data


def _read_bytes(data: Any, kind: Any) -> bytes:
    try:
        return binascii.a2b_base64(_text(data, kind), strict_mode=True)
    except binascii.Error:
        raise ValueError(f"must be base64 text, got {data!r:.100}") from None


def _write_parameters(parameters: VideoParameters) -> dict[str, Any]:
    """Unlike `VideoParameters.to_dict`, keep ``extra`` apart, and a path from base64 text."""
    written: dict[str, Any] = {
        name: getattr(parameters, name)
        for name in _PARAMETERS
        if getattr(parameters, name) is not None
    }
    if isinstance(parameters.image, Path):
        written["image"] = {"path": str(parameters.image)}
    return written | {"extra": dict(parameters.extra)}


def _read_parameters(data: Any, kind: Any) -> VideoParameters:
    """Read what `_write_parameters` and `VideoParameters.to_dict` write."""
    given = dict(_object(data, kind))
    extra = _object(given.pop("extra", {}), kind)
    known = {name: given.pop(name) for name in _PARAMETERS if name in given}
    image = known.get("image")
    if isinstance(image, Mapping) and isinstance(image.get("path"), str):
        known["image"] = Path(image["path"])
    return VideoParameters(**known, extra={**given, **extra})


def _explained(error: Exception, where: str) -> str:
    """Return what is wrong, and where, from the groups that cattrs raises."""
    if isinstance(error, ExceptionGroup):
        first = error.exceptions[0]
        return _explained(first, where + "".join(map(_step, getattr(first, "__notes__", ()))))
    if isinstance(error, KeyError):
        return f"{where} is missing"
    return f"{where} {error}" if str(error).startswith("must be ") else f"{where}: {error}"


def _step(note: Any) -> str:
    """Return the part of a path that a note of cattrs names: a field, or an index."""
    return f".{note.name}" if hasattr(note, "name") else f"[{note.index}]"

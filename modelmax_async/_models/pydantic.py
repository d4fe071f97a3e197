"""What pydantic asks of the values, so that FastAPI and taskiq take and return them.

Only pydantic calls this. The package does not need pydantic, and never imports it by itself.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import attrs

from modelmax_async._models.jobs import Status
from modelmax_async._models.requests import VideoParameters
from modelmax_async._models.value import Value

if TYPE_CHECKING:
    from pydantic_core import CoreSchema, SchemaSerializer

_BASE64 = {"type": "string", "contentEncoding": "base64"}
_SIMPLE: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    bytes: _BASE64,
    Exception: {"type": "object"},
    float: {"type": "number"},
    int: {"type": "integer"},
    NoneType: {"type": "null"},
    object: {"anyOf": [_BASE64, {"type": "null"}]},  # the image of the parameters
    Path: {"type": "string"},
    Status: {"type": "string"},
    str: {"type": "string"},
}


def core_schema(kind: type[Value]) -> "CoreSchema":
    """Return how pydantic validates and writes a value: as `from_dict` and `to_dict` do."""
    from pydantic_core import core_schema as made  # noqa: PLC0415 - pydantic is its caller

    return made.no_info_plain_validator_function(
        lambda data: data if isinstance(data, kind) else _of_a_stranger(kind.from_dict(data)),
        serialization=made.plain_serializer_function_ser_schema(kind.to_dict),
    )


@cache
def serializer(kind: Any) -> "SchemaSerializer":
    """Return what pydantic writes a value with where no annotation says what it is."""
    from pydantic_core import SchemaSerializer  # noqa: PLC0415 - pydantic is its caller

    return SchemaSerializer(core_schema(kind))


def json_schema(kind: type[Value]) -> dict[str, Any]:
    """Return the JSON schema of a value's dict, for OpenAPI."""
    fields = attrs.fields(kind)
    return {
        "title": kind.__name__,
        "type": "object",
        "properties": {field.name: _schema_of(field.type) for field in fields},
        "required": [field.name for field in fields if field.default is attrs.NOTHING],
    }


def _schema_of(kind: Any) -> dict[str, Any]:
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    if isinstance(kind, type) and issubclass(kind, Value):
        return json_schema(kind)
    parts, origin = get_args(kind), get_origin(kind)
    if origin is Literal:
        return {"type": "string", "enum": list(parts)}
    if origin is Mapping:
        return {"type": "object", **_schema_of_items(parts[1])}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(parts[0])}
    schemas = [_schema_of(part) for part in parts if part is not Status]
    return {"anyOf": schemas} if len(schemas) > 1 else schemas[0]


def _schema_of_items(kind: Any) -> dict[str, Any]:
    """Return what is said of the items of an object, if they are values."""
    is_value = isinstance(kind, type) and issubclass(kind, Value)
    return {"additionalProperties": json_schema(kind)} if is_value else {}


def _of_a_stranger(value: Any) -> Any:
    """Return the value unless it names a file of this machine, which the submit would send.

    Raises:
        ValueError: if it does.
    """
    if isinstance(value, VideoParameters) and isinstance(value.image, Path):
        raise ValueError("image must be base64 text, got the path of a file")  # noqa: TRY004 - pydantic wants it
    if isinstance(value, Value):
        for field in attrs.fields(type(value)):
            _of_a_stranger(getattr(value, field.name))
    return value

"""The base of the values."""

from collections.abc import Mapping
from typing import Any, Self

import attrs

from modelmax_async._reprs import always_shown


@attrs.frozen
class Value:
    """The base of the values: each can be pickled, and written to and read from a dict.

    A pickle holds the public class and a dict of the fields. A stored pickle therefore loads in
    later versions that move the class or add fields.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the value as a dict that is ready for JSON.

        Bytes are base64 text, paths are text, tuples are lists, and values inside it are dicts.
        """
        from modelmax_async._models.dicts import write  # noqa: PLC0415 - it knows all the values

        return write(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the value of a dict from `to_dict`, also after it was stored as JSON.

        Args:
            data: the dict. Keys that this version does not know are ignored, and fields that
                are missing get their default.

        Raises:
            ValueError: if a required key is missing or a value is unusable; the message names
                the class and the field.
        """
        from modelmax_async._models.dicts import read  # noqa: PLC0415 - it knows all the values

        return read(data, cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" in vars(cls):  # that of attrs, which makes the class anew with its slots
            always_shown(cls)

    @classmethod
    def _of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return the value; unknown fields are ignored, missing ones get their default."""
        names = {field.name for field in attrs.fields(cls) if field.init}
        return cls(**{name: value for name, value in fields.items() if name in names})

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        from modelmax_async._models.pydantic import core_schema  # noqa: PLC0415 - it needs pydantic

        return core_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> Any:
        from modelmax_async._models.pydantic import json_schema  # noqa: PLC0415 - for pydantic only

        return json_schema(cls)

    @property
    def __pydantic_serializer__(self) -> Any:
        """What pydantic looks for in a value of unknown type, as taskiq's arguments are."""
        from modelmax_async._models.pydantic import serializer  # noqa: PLC0415 - it needs pydantic

        kind: Any = type(self)
        return serializer(kind)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return self._of_fields, (fields,)

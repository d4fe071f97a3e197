"""The base of the values."""

from collections.abc import Mapping
from typing import Any, Self

import attrs


@attrs.frozen
class Value:
    """The base of the values: each is pickled as its public class and a dict of its fields.

    A stored pickle therefore loads in later versions that move the class or add fields.
    """

    @classmethod
    def _of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return the value; unknown fields are ignored, missing ones get their default."""
        names = {field.name for field in attrs.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in names})

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return self._of_fields, (fields,)

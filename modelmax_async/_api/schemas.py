"""The shapes of the API's JSON bodies, structured by one converter compiled once.

Only the fields that the SDK cannot do without are strict: an optional field of an unexpected
type must not cost a paid result.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from modelmax_async._api.messages import as_utf8
from modelmax_async._models import Usage
from modelmax_async._validators import is_number

if TYPE_CHECKING:
    import cattrs

T = TypeVar("T")
_LARGEST = sys.float_info.max


@attrs.frozen
class SubmitBody:
    """API §1, the 202."""

    request_id: str
    status_url: Any = None
    response_url: Any = None


@attrs.frozen
class StatusBody:
    """API §2."""

    status: str
    error: Any = None


@attrs.frozen
class ResultBody:
    """API §3, with any of its four statuses."""

    status: str
    model: Any = None
    data: Any = ()
    usage: Any = None
    error: Any = None


@cache
def converter() -> cattrs.Converter:
    """Return the converter, compiled for every body."""
    import cattrs  # noqa: PLC0415 - a tenth of the package's import time, needed by clients only

    made = cattrs.Converter(detailed_validation=False)
    made.register_structure_hook(str, _strict_text)
    for body in (SubmitBody, StatusBody, ResultBody):
        made.get_structure_hook(body)
    return made


def structure(data: Any, shape: type[T]) -> T:
    """Return the body as a value of its class.

    Raises:
        ValueError: names the field that is missing or has another type.
    """
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")  # noqa: TRY004 - a bad body is a value
    try:
        return converter().structure(data, shape)
    except KeyError as exc:
        raise ValueError(f"the field {exc} is missing") from exc


def read_usage(data: Any) -> Usage:
    """Return what was billed; a field that is missing or has another type is ``None``."""
    fields = data if isinstance(data, dict) else {}
    seconds = fields.get("video_seconds")
    resolution = fields.get("video_resolution")
    audio = fields.get("video_has_audio")
    return Usage(
        video_seconds=seconds if is_number(seconds) and abs(seconds) <= _LARGEST else None,
        video_resolution=as_utf8(resolution) if isinstance(resolution, str) else None,
        video_has_audio=audio if isinstance(audio, bool) else None,
    )


def _strict_text(value: Any, _: type[str]) -> str:
    """Refuse other types: cattrs would turn ``5`` into ``"5"``."""
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {type(value).__name__}")  # noqa: TRY004 - as above
    return value

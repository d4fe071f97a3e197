"""Requests: their endpoint, and the rules for the body of a submit (API §1-§4)."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from attrs import field, frozen

from modelmax_async._reprs import always_shown


@frozen
class Route:
    """The endpoint of a request, and the decoded parts of its path."""

    endpoint: str  # submit, status, result, content, config or unknown
    model: str = ""
    request_id: str | None = None  # a content id for content
    index: str = ""  # of a video


@always_shown
@frozen(kw_only=True)
class Received:
    """A request that the emulator received.

    Attributes:
        endpoint: submit, status, result, content, config or unknown.
        method: The HTTP method.
        raw_path: The path as it was sent, percent-encoded.
        request_id: The id in the path, decoded; the job's id for content.
        headers: Header fields, names in lower case, the key included.
        body: The body.
        at: Loop time in seconds.
    """

    endpoint: str
    method: str
    raw_path: str
    request_id: str | None
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: float


UNKNOWN = Route("unknown")


def route(method: str, raw_path: str) -> Route:
    """Return the endpoint of a request; its path is split before it is decoded.

    An id may contain bare slashes, because other clients do not encode the id.
    """
    segments = [unquote(part) for part in raw_path.removeprefix("/").split("/")]
    match method, segments:
        case "GET", ["v1", "config"]:
            found = Route("config")
        case "POST", ["v1", "queue", model]:
            found = Route("submit", model)
        case "GET", ["v1", "queue", model, "requests", *ids, "content", index] if ids:
            found = Route("content", model, "/".join(ids), index)
        case "GET", ["v1", "queue", model, "requests", *ids, "status"] if ids:
            found = Route("status", model, "/".join(ids))
        case "GET", ["v1", "queue", model, "requests", *ids] if ids:
            found = Route("result", model, "/".join(ids))
        case _:
            found = UNKNOWN
    return found


def read_headers(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the header fields of an ASGI request, names in lower case."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def parse_submit(model: str, body: bytes) -> dict[str, Any]:
    """Return the body of a submit.

    Raises:
        ValueError: The body breaks a documented rule (API §1). Unknown keys are accepted.
    """
    if not model.startswith("veo"):
        raise ValueError(f"model {model!r} is not a video model")
    document = json.loads(body)  # its errors are ValueErrors
    if not isinstance(document, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - becomes a 400
    prompt = document.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("prompt is required")
    parameters = document.get("parameters")
    if parameters is not None:
        _check_parameters(parameters)
    return document


def _check_parameters(parameters: Any) -> None:
    if not isinstance(parameters, dict):
        raise ValueError("parameters must be an object")  # noqa: TRY004 - becomes a 400
    rules: dict[str, Callable[[Any], bool]] = {
        "aspect_ratio": lambda value: value in ("16:9", "9:16"),
        "resolution": lambda value: value in ("720p", "1080p", "4k"),
        "duration_seconds": lambda value: type(value) is int and value in range(1, 9),
        "generate_audio": lambda value: isinstance(value, bool),
        "sample_count": lambda value: type(value) is int and value in range(1, 5),
        "negative_prompt": lambda value: isinstance(value, str),
        "image": lambda value: isinstance(value, str),
    }
    for name, valid in rules.items():
        if name in parameters and not valid(parameters[name]):
            raise ValueError(f"{name} is out of its documented range")

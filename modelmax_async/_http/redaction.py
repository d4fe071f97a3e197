"""Removing the key from responses: servers quote what they were sent."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import attrs

from modelmax_async._api.bounded_json import parse
from modelmax_async._api.endpoints import result_status
from modelmax_async._api.messages import Reply
from modelmax_async._api_key import ApiKey
from modelmax_async._models import Status


def quiet(reply: Reply, key: ApiKey) -> Reply:
    """Return a response without the key, because errors, values and ledgers show what it says.

    A body without the key keeps every byte. The JSON of one that quotes the key, even escaped,
    says the same but for the key.
    """
    headers, body = reply.headers, reply.body
    if reply.status >= HTTPStatus.MULTIPLE_CHOICES:
        headers = {name: key.hide_in(value) for name, value in headers.items()}
    plain = attrs.evolve(reply, headers=headers, body=body)
    without = _without(key, body)
    if without is None:
        return plain
    clean = attrs.evolve(plain, body=without)
    # A key that is a word of the API, such as COMPLETED, is no secret that is worth a result.
    said = result_status(plain)[0]
    return plain if said in set(Status) and result_status(clean)[0] != said else clean


def _without(key: ApiKey, body: bytes) -> bytes | None:
    """Return a body without the key; ``None`` if it does not contain the key."""
    encoding: str = json.detect_encoding(body)
    if encoding.startswith("utf-8"):
        if not key.may_be_in(body):
            return None
        encoding = "latin-1"  # any bytes can be read and written with it
    try:
        data = parse(body)
    except ValueError:
        text = body.decode(encoding, "replace")
        clean = key.hide_in(text)
        return None if clean == text else clean.encode(encoding)
    shown = _hidden(data, key)
    return None if shown == data else json.dumps(shown).encode()


def _hidden(value: Any, key: ApiKey) -> Any:
    """Return a value of JSON without the key."""
    if isinstance(value, str):
        return key.hide_in(value)
    if isinstance(value, dict):
        return {key.hide_in(name): _hidden(inner, key) for name, inner in value.items()}
    return [_hidden(inner, key) for inner in value] if isinstance(value, list) else value

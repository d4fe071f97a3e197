"""Removing the key from responses: servers quote what they were sent."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus

import attrs

from modelmax_async._api.endpoints import result_status
from modelmax_async._api.messages import Reply, decoded
from modelmax_async._models import Status
from modelmax_async._settings import ApiKey

_SHORT = 64 * 1024


def _is_no_result(reply: Reply) -> bool:
    short = len(reply.body) <= _SHORT  # a larger body takes long to parse, and is not an error
    return short and result_status(reply)[0] != Status.COMPLETED


def quiet(reply: Reply, key: ApiKey, *, paid: bool = False) -> Reply:
    """Return a response without the key, because errors show what the response says.

    A ``paid`` one that says COMPLETED stays as it was received.
    """
    refused = reply.status >= HTTPStatus.MULTIPLE_CHOICES
    if paid and not refused and not _is_no_result(reply):
        return reply
    headers, body = reply.headers, reply.body
    if refused or "content-encoding" in headers:
        headers = {name: key.hide_in(value) for name, value in headers.items()}
        with suppress(ValueError):  # unreadable: then it shows no key to a reader either
            body = decoded(reply)
            headers.pop("content-encoding", None)
    body = key.hide_in(body.decode("latin-1")).encode("latin-1")
    return attrs.evolve(reply, headers=headers, body=body)

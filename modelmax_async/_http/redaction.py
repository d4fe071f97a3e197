"""Taking the key out of what a server says: servers quote what they were sent."""

from __future__ import annotations

from contextlib import suppress

import attrs

from modelmax_async._api.endpoints import result_status
from modelmax_async._api.messages import Reply, decoded
from modelmax_async._models import Status
from modelmax_async._settings import ApiKey

_REFUSED = 300
_SHORT = 64 * 1024


def _is_no_result(reply: Reply) -> bool:
    short = len(reply.body) <= _SHORT  # a larger one takes long to read, and is no error
    return short and result_status(reply)[0] != Status.COMPLETED


def quiet(reply: Reply, key: ApiKey, *, paid: bool = False) -> Reply:
    """Return an answer less the key, since errors show what it says.

    Args:
        reply: the answer.
        key: what it must not hold.
        paid: whether it may be a paid result, which stays as it came. One that does not say
            COMPLETED is not.
    """
    refused = reply.status >= _REFUSED
    if paid and not refused and not _is_no_result(reply):
        return reply
    headers, body = reply.headers, reply.body
    if refused or "content-encoding" in headers:
        headers = {name: key.hide_in(value) for name, value in headers.items()}
        with suppress(ValueError):  # unreadable, for who hides in it and for who reads it
            body = decoded(reply)
            headers.pop("content-encoding", None)
    body = key.hide_in(body.decode("latin-1")).encode("latin-1")
    return attrs.evolve(reply, headers=headers, body=body)

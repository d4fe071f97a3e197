"""Taking the key out of what a server says: servers quote what they were sent."""

from __future__ import annotations

import attrs

from modelmax_async._messages import Reply
from modelmax_async._settings import ApiKey

_REFUSED = 300


def quiet(reply: Reply, key: ApiKey, *, paid: bool = False) -> Reply:
    """Return an answer less the key, since errors show what it says.

    Args:
        reply: the answer.
        key: what it must not hold.
        paid: whether it may be a paid result, which stays as it came.
    """
    refused = reply.status >= _REFUSED
    if paid and not refused:
        return reply
    body = key.hide_in(reply.body.decode("latin-1")).encode("latin-1")
    headers = reply.headers
    if refused:
        headers = {name: key.hide_in(value) for name, value in headers.items()}
    return attrs.evolve(reply, headers=headers, body=body)

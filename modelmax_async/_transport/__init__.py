"""HTTP: the only package that imports httpx.

A request goes out in a slot, and `max_in_flight` slots bound all of them. By default each
slot has a connection of its own, so that nothing queues in a connection pool.
"""

from modelmax_async._transport._clients import HTTPClient
from modelmax_async._transport._exchange import Exchange, Progress
from modelmax_async._transport._http import Prepared, Transport
from modelmax_async._transport._limits import Timeout

__all__ = ["Exchange", "HTTPClient", "Prepared", "Progress", "Timeout", "Transport"]

"""HTTP: the only package that imports httpx.

A request goes out in a slot, and `max_in_flight` slots bound all of them. By default each
slot has a connection of its own, so that nothing queues in a connection pool.
"""

from modelmax_async._http.client import Prepared, Transport
from modelmax_async._http.clients import HTTPClient
from modelmax_async._http.exchange import Exchange, Progress
from modelmax_async._http.timeouts import Timeout

__all__ = ["Exchange", "HTTPClient", "Prepared", "Progress", "Timeout", "Transport"]

"""HTTP: the only package that imports httpx.

A request is sent in a slot, and ``max_in_flight`` slots bound all of them. Every request goes
through an `httpx.AsyncClient`: the caller's, or one of the SDK's own whose transport gives
each request a connection, so that none queues in a connection pool.
"""

from modelmax_async._http.client import HTTPClient, Prepared
from modelmax_async._http.exchange import Exchange, Progress
from modelmax_async._http.own_client import ClientOrTransport
from modelmax_async._http.timeouts import Timeout

__all__ = ["ClientOrTransport", "Exchange", "HTTPClient", "Prepared", "Progress", "Timeout"]

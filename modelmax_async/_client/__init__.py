"""The client: the class that users hold, and the parts that it is made of."""

from modelmax_async._client.client import AsyncQueueClient

__all__ = ["AsyncQueueClient"]

"""The client: one class, a module for each group of its methods."""

from modelmax_async._client.client import AsyncQueueClient

__all__ = ["AsyncQueueClient"]

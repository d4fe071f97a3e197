"""The client of a test, which is made and closed in the event loop of that test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from modelmax_async._client import AsyncQueueClient
from modelmax_async.testing._modelmax import ModelMax
from modelmax_async.testing._virtual_time import VirtualTimeLoop

MARKER = "virtual_time"


@asynccontextmanager
async def client_of(
    request: pytest.FixtureRequest, modelmax: ModelMax
) -> AsyncIterator[AsyncQueueClient]:
    """Yield a client of this ModelMax, in the event loop of the test."""
    loop = asyncio.get_running_loop()
    marked = request.node.get_closest_marker(MARKER) is not None
    if marked and not isinstance(loop, VirtualTimeLoop):
        pytest.fail(
            "virtual_time has no effect on this test, because it shares its event loop with "
            "other tests: use function scope for the loop and for asynchronous fixtures",
            pytrace=False,
        )
    async with modelmax.client() as client:
        yield client

"""What pytest-asyncio needs from the fixtures; loaded only if that plugin is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from typing import Any, Literal

import pytest
import pytest_asyncio

from modelmax_async._client import AsyncQueueClient
from modelmax_async.testing._client_fixture import MARKER, client_of
from modelmax_async.testing._modelmax import ModelMax
from modelmax_async.testing._virtual_time import VirtualTimeLoop

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def _client_in(scope: Literal["function", "class", "module", "package", "session"]) -> Any:
    @pytest_asyncio.fixture(loop_scope=scope, name=f"_modelmax_client_{scope}")
    async def client(
        request: pytest.FixtureRequest, modelmax: ModelMax
    ) -> AsyncIterator[AsyncQueueClient]:
        async with client_of(request, modelmax) as made:
            yield made

    return client


# a client belongs to the loop of its test, which may be shared by a class or more
in_function = _client_in("function")
in_class = _client_in("class")
in_module = _client_in("module")
in_package = _client_in("package")
in_session = _client_in("session")


def client_fixture(item: pytest.Item) -> str:
    """Return the name of the client fixture whose loop is that of a test."""
    marker = item.get_closest_marker("asyncio")
    given = {} if marker is None else marker.kwargs
    scope = given.get("loop_scope") or given.get("scope")
    return f"_modelmax_client_{scope or item.config.getini('asyncio_default_test_loop_scope')}"


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Generator[None, LoopFactories | None, LoopFactories]:
    """Run tests that are marked so in virtual time, and others as they would run anyway."""
    factories = yield
    if item.get_closest_marker(MARKER) is not None:
        return {"virtual_time": VirtualTimeLoop}
    return factories or {"asyncio": asyncio.new_event_loop}

"""Fixtures for pytest; opt in with ``pytest_plugins = ["modelmax_async.testing.fixtures"]``.

The line belongs in the ``conftest.py`` of the root directory of your tests. It works with
pytest-asyncio, in strict and in auto mode, and with anyio's plugin. Mark an asynchronous test
with ``@pytest.mark.virtual_time``, and a wait of ten minutes takes none.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from modelmax_async._client import AsyncQueueClient
from modelmax_async.testing._client_fixture import MARKER, client_of
from modelmax_async.testing._modelmax import ModelMax
from modelmax_async.testing._server import served_in_thread
from modelmax_async.testing._virtual_time import VirtualTimeLoop

__all__ = ["modelmax", "modelmax_client", "modelmax_server"]

_ADAPTER = "modelmax_async.testing._pytest_asyncio"


@pytest.fixture
def modelmax() -> ModelMax:
    """A new local ModelMax, in process: it accepts any API key, and counts what it bills.

    A fixture of this name in your ``conftest.py`` can make one with other arguments.
    """
    return ModelMax(api_key=None)


@pytest.fixture
def modelmax_client(request: pytest.FixtureRequest) -> AsyncQueueClient:
    """A client of ``modelmax``, which is closed after the test in the test's event loop."""
    name = _client_fixture(request)
    if name is None:
        pytest.fail(
            "modelmax_client needs an asynchronous test that pytest-asyncio or anyio's plugin "
            "runs: mark the test with @pytest.mark.asyncio or @pytest.mark.anyio, or use "
            "modelmax_server in a synchronous test",
            pytrace=False,
        )
    found: AsyncQueueClient = request.getfixturevalue(name)
    return found


@pytest.fixture
def modelmax_server(
    request: pytest.FixtureRequest, modelmax: ModelMax, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The base URL of ``modelmax`` on a socket, for code that makes its own client.

    ``MODELMAX_API_BASE_URL`` and ``MODELMAX_API_KEY`` are set to it during the test. It needs
    the extra ``emulator``, and works for synchronous tests too.
    """
    if importlib.util.find_spec("uvicorn") is None:
        pytest.fail(
            "modelmax_server needs uvicorn: install it with "
            'pip install "modelmax-async[emulator]"',
            pytrace=False,
        )
    if request.node.get_closest_marker(MARKER) is not None:
        pytest.fail(
            "modelmax_server is on a socket, and virtual_time does not wait for sockets: pass "
            "modelmax.transport() to the code under test, or remove the marker",
            pytrace=False,
        )
    with served_in_thread(modelmax) as url:
        monkeypatch.setenv("MODELMAX_API_BASE_URL", url)
        monkeypatch.setenv("MODELMAX_API_KEY", "sk-emulator")
        yield url


@pytest.fixture
async def _modelmax_client_anyio(
    request: pytest.FixtureRequest, modelmax: ModelMax
) -> AsyncIterator[AsyncQueueClient]:
    async with client_of(request, modelmax) as client:
        yield client


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker, and load what pytest-asyncio needs."""
    config.addinivalue_line("markers", f"{MARKER}: run an asynchronous test in virtual time.")
    if config.pluginmanager.has_plugin("asyncio"):
        config.pluginmanager.register(importlib.import_module(_ADAPTER), _ADAPTER)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests in virtual time a backend of anyio, if that plugin runs them."""
    marked = metafunc.definition.get_closest_marker(MARKER) is not None
    if marked and "anyio_backend" in metafunc.fixturenames:
        backend = ("asyncio", {"loop_factory": VirtualTimeLoop})
        # as a marker, it takes precedence over the parameters of the fixture
        metafunc.definition.add_marker(
            pytest.mark.parametrize("anyio_backend", [backend], ids=["virtual_time"])
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse the marker where it would have no effect; a module may have it for all tests."""
    if item.get_closest_marker(MARKER) is None or "anyio_backend" in _names(item):
        return
    if _asyncio_adapter(item) is None:
        if any(marker.name == MARKER for marker in item.own_markers):
            pytest.fail(
                "virtual_time needs an asynchronous test that pytest-asyncio or anyio's plugin "
                "runs",
                pytrace=False,
            )
    elif not item.config.hook.pytest_asyncio_loop_factories.has_spec():
        pytest.fail("virtual_time needs pytest-asyncio 1.4 or later", pytrace=False)


def _client_fixture(request: pytest.FixtureRequest) -> str | None:
    """Return the name of the client fixture for the plugin that runs this test, if one does."""
    adapter = _asyncio_adapter(request.node)
    by_anyio = "anyio_backend" in request.fixturenames
    if adapter is not None and by_anyio:
        pytest.fail(
            "both pytest-asyncio and anyio's plugin run this test or its fixtures, each in an "
            "event loop of its own: mark it for one of them, and set asyncio_mode to strict",
            pytrace=False,
        )
    if adapter is not None:
        name: str = adapter.client_fixture(request.node)
        return name
    if not by_anyio:
        return None
    if request.getfixturevalue("anyio_backend_name") != "asyncio":
        pytest.skip("modelmax_async runs on asyncio only")
    return "_modelmax_client_anyio"


def _asyncio_adapter(item: pytest.Item) -> Any:
    """Return the module for pytest-asyncio if that plugin runs this test."""
    adapter = item.config.pluginmanager.get_plugin(_ADAPTER)
    if adapter is None or not adapter.pytest_asyncio.is_async_test(item):
        return None
    return adapter


def _names(item: pytest.Item) -> list[str]:
    names: list[str] = getattr(item, "fixturenames", [])
    return names

"""The password of a proxy or of a database is in no traceback, local variables included."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest

from modelmax_async import AsyncQueueClient, ConfigurationError, PostgresLedger
from modelmax_async._reprs import Unshown

PASSWORD = "s3cret"


def shown(error: BaseException) -> str:
    """Return what a tool shows of an error, without the frames of the tests."""
    text = []
    seen: BaseException | None = error
    while seen is not None:
        text += [repr(seen), str(seen)]
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if frame.f_globals["__name__"] != __name__:
                text += [f"{name} = {value!r}" for name, value in frame.f_locals.items()]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(text)


@pytest.mark.parametrize(
    "proxy",
    [
        f"ftp://someone:{PASSWORD}@proxy.example",
        f"http://someone:{PASSWORD}@proxy.example:port",
        f"http://someone:12{PASSWORD}/34@proxy.example",
        f"socks5://someone:{PASSWORD}@proxy.example",
    ],
)
@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY"])
def test_error_about_a_proxy_shows_no_password(
    proxy: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(ConfigurationError, match="the proxy that the environment") as caught:
        AsyncQueueClient(api_key="sk-0123456789")

    assert "proxy = '…'" in shown(caught.value)
    assert PASSWORD not in shown(caught.value)


@pytest.mark.parametrize("proxy", [f"http://u:{PASSWORD}@proxy.example:8080", "proxy.example"])
def test_client_behind_a_proxy_shows_no_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    client = AsyncQueueClient(api_key="sk-0123456789")

    routes = client._engine.http._routes

    assert PASSWORD not in repr(client) + repr(vars(routes)) + repr(vars(routes.client))


def test_error_about_a_proxy_without_a_password_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "ftp://proxy.example")
    with pytest.raises(ConfigurationError, match="Unknown scheme for proxy URL"):
        AsyncQueueClient(api_key="sk-0123456789")


@pytest.mark.parametrize(
    "arguments",
    [
        {"dsn": f"mysql://someone:{PASSWORD}@host/films"},
        {"dsn": f"postgresql://someone:{PASSWORD}/x@host/films"},
        {"dsn": f"postgresql://someone:{PASSWORD}@[host/films"},
        {"dsn": f"postgresql://someone:{PASSWORD}@host/films", "schema": ""},
        {"dsn": f"postgresql://someone:{PASSWORD}@host/films", "pool_size": 0},
        {"dsn": f"postgresql://someone:{PASSWORD}@host/films", "timeout": 0},
    ],
)
def test_error_about_a_database_shows_no_password(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        PostgresLedger(**arguments)

    assert "dsn = '…'" in shown(caught.value)
    assert PASSWORD not in shown(caught.value)


def test_unshown_text_is_the_same_text() -> None:
    assert PASSWORD == Unshown(PASSWORD)
    assert "'…'" == repr(Unshown(PASSWORD))

"""A constructor's argument of the wrong kind is refused before any I/O, with what to pass."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from support import in_process, in_virtual_time

from modelmax_async import (
    AdaptivePolicy,
    AsyncQueueClient,
    ConfigurationError,
    PollPolicy,
    ResourceLimits,
    RetryPolicy,
    SQLiteLedger,
)
from modelmax_async.emulator import Emulator
from modelmax_async.events import Event

HERE: dict[str, Any] = {
    "model": "veo-3",
    "base_url": "http://127.0.0.1",
    "api_key": "sk-emulator",
}


async def on_event(_event: Event) -> None:
    """Stand for a hook that would have to be awaited."""


class AsyncHook:
    async def __call__(self, event: Event) -> None:
        """Stand for an object that would have to be awaited."""


class AsyncPolicy:
    async def delay(self, wait: object, random: float) -> float:
        """Stand for a policy that would have to be awaited."""
        return random


class Half:
    async def apply(self, key: object, move: object) -> None:
        """Stand for a ledger that is not finished."""


class Session:
    """Stands for `aiohttp.ClientSession`."""

    __module__ = "aiohttp.client"


LEDGER = "ledger must be a SQLiteLedger, a PostgresLedger or another ledger, got "
CLIENT = "http_client must be an httpx.AsyncClient or an async transport, got "
KEY = "api_key must be the key alone, such as sk-…: "
URL = "base_url must be an http:// or https:// URL with a host and an optional port"
ASYNC = "which would never be awaited: start a task in a plain function instead"
MISTAKES: list[tuple[str, Any, str]] = [
    ("ledger", "runs.db", f"{LEDGER}str: pass SQLiteLedger('runs.db')"),
    ("ledger", Path("runs.db"), f"{type(Path()).__name__}: pass SQLiteLedger('runs.db')"),
    ("ledger", "postgresql://u:pw@h/db", f"{LEDGER}str: pass PostgresLedger(…)"),
    ("ledger", "host=h password=pw", f"{LEDGER}str: pass PostgresLedger(…)"),
    ("ledger", SQLiteLedger, f"{LEDGER}the class SQLiteLedger: pass SQLiteLedger(…)"),
    ("ledger", {}, 'dict: pass SQLiteLedger("runs.db"), PostgresLedger(…) or MemoryLedger()'),
    (
        "ledger",
        Half(),
        "methods of modelmax_async.ledger.Ledger, got Half without entries() and aclose()",
    ),
    (
        "poll",
        5,
        "got 5: pass PollPolicy(initial=5, maximum=5) for a steady interval",
    ),
    (
        "poll",
        True,
        "poll must be a PollingPolicy, got True: pass PollPolicy(…), AdaptivePolicy",
    ),
    ("poll", 0, "poll must be a PollingPolicy, got 0"),
    ("poll", PollPolicy, "poll must be a PollingPolicy, got the class PollPolicy: pass "),
    ("poll", RetryPolicy(), "poll must be a PollingPolicy, got RetryPolicy: pass it as retry="),
    ("poll", AsyncPolicy(), "its delay() must be a plain function, got a coroutine function"),
    ("poll", lambda wait: 5.0, "got a function: pass PollPolicy(…), AdaptivePolicy(…), or an "),
    ("retry", 5, "retry must be a RetryPolicy, got 5: pass RetryPolicy(attempts=5)"),
    ("retry", True, "retry must be a RetryPolicy, got True"),
    ("retry", 0, "retry must be a RetryPolicy, got 0"),
    (
        "retry",
        RetryPolicy,
        "retry must be a RetryPolicy, got the class RetryPolicy: pass Retry",
    ),
    ("retry", PollPolicy(), "retry must be a RetryPolicy, got PollPolicy: pass it as poll="),
    ("retry", AdaptivePolicy(), "got AdaptivePolicy: pass it as poll="),
    ("limits", ResourceLimits, "limits must be a ResourceLimits, got the class ResourceLimits"),
    ("limits", 5, "limits must be a ResourceLimits, got 5: pass ResourceLimits(…)"),
    ("limits", httpx.Limits(), "got Limits: pass max_in_flight= for the most connections"),
    ("timeout", "30", "timeout must be seconds above 0, an httpx.Timeout or None, got '30'"),
    ("http_client", httpx.AsyncClient, f"{CLIENT}the class AsyncClient: pass AsyncClient(…)"),
    (
        "http_client",
        httpx.HTTPTransport(),
        f"{CLIENT}HTTPTransport: pass httpx.AsyncHTTPTransport(…), as this one is synchronous",
    ),
    (
        "http_client",
        Session(),
        f"{CLIENT}Session: pass httpx_aiohttp.AiohttpTransport() (extra",
    ),
    ("http_client", "http://u:pw@proxy:3128", f"{CLIENT}str: pass httpx.AsyncClient(proxy=…)"),
    ("http_client", object(), f"{CLIENT}object: pass httpx.AsyncClient(…), or httpx.ASGI"),
    ("hooks", print, "hooks must be a list of functions, got a function: pass hooks=[print]"),
    ("hooks", None, "hooks must be a list of functions, got None"),
    ("hooks", "print", "hooks must be a list of functions, got str"),
    ("hooks", [print, None], "hooks[1] must be a function, got None"),
    (
        "hooks",
        [on_event],
        f"hooks[0] must be a plain function, got a coroutine function (on_event), {ASYNC}",
    ),
    ("hooks", [functools.partial(on_event)], "got a coroutine function (on_event), which"),
    ("hooks", [AsyncHook()], "got a coroutine function (AsyncHook), which"),
    ("hooks", [functools.partial(AsyncHook())], "got a coroutine function (AsyncHook), which"),
    ("allow_insecure", "no", "allow_insecure must be True or False, got 'no'"),
    ("base_url", "api.modelmax.io", f"{URL}, got 'api.modelmax.io': pass 'https://api.mod"),
    (
        "base_url",
        "localhost:8080",
        f"{URL}, got 'localhost:8080': pass 'http://localhost:8080'",
    ),
    ("base_url", "/v1", f"{URL}, got '/v1'"),
    ("base_url", "ftp://api.example", f"{URL}, got 'ftp://api.example'"),
    ("base_url", "user:pw@api.modelmax.io", URL),
    ("api_key", "Bearer sk-pw", f"{KEY}remove the word Bearer before it"),
    ("api_key", "bearer:sk-pw", f"{KEY}remove the word Bearer before it"),
    ("api_key", '"sk-pw"', f"{KEY}remove the quotation marks around it"),
    ("api_key", "'sk-pw", f"{KEY}remove the quotation marks around it"),
    ("api_key", "sk-pw'", f"{KEY}remove the quotation marks around it"),
    ("api_key", "MODELMAX_API_KEY=sk-pw", f"{KEY}pass the value of MODELMAX_API_KEY, not its"),
    ("api_key", "$MODELMAX_API_KEY", f"{KEY}pass the value of MODELMAX_API_KEY, not its name"),
    ("api_key", "sk-…", f"{KEY}this is the placeholder of the documentation"),
]


@pytest.mark.parametrize(("name", "value", "message"), MISTAKES)
def test_mistake_in_an_argument_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AsyncQueueClient(**(HERE | {name: value}))

    assert message in str(caught.value)
    assert "pw" not in str(caught.value), "what may be a password is not shown"
    assert isinstance(caught.value, ValueError)


def test_synchronous_client_is_refused() -> None:
    with httpx.Client() as client, pytest.raises(ConfigurationError) as caught:
        AsyncQueueClient(**HERE, http_client=client)  # type: ignore[arg-type]  # the mistake

    assert f"{CLIENT}Client: pass httpx.AsyncClient(…), as this one is synchronous" == str(
        caught.value
    )


def test_key_of_the_environment_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELMAX_API_KEY", '"sk-pw"')

    with pytest.raises(ConfigurationError) as caught:
        AsyncQueueClient()

    assert "MODELMAX_API_KEY must be the key alone, such as sk-…: remove the quotation" in str(
        caught.value
    )
    assert "sk-pw" not in str(caught.value)


def test_hooks_may_be_any_iterable_of_callables() -> None:
    hooks: Any = (hook for hook in (print, SimpleNamespace, functools.partial(print)))

    assert "open" in repr(AsyncQueueClient(**HERE, hooks=hooks))


class Duck:
    """A transport that is none by its class."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self.handle_async_request = transport.handle_async_request


@pytest.mark.anyio
@in_virtual_time
async def test_transport_that_only_behaves_like_one_is_used(emulator: Emulator) -> None:
    async with in_process(emulator, http_client=Duck(emulator.transport())) as client:
        result = await client.generate("a reef")

    assert {result.request_id: 1} == emulator.billed

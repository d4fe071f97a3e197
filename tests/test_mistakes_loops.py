"""A client that is used without asyncio says what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
from support import KEY, on_socket

from modelmax_async import AsyncQueueClient, ClientStateError

TRIO = (
    "AsyncQueueClient needs a running asyncio event loop, and this code runs under trio: use "
    'asyncio.run(main()), or anyio.run(main, backend="asyncio")'
)
NONE = (
    "AsyncQueueClient needs a running asyncio event loop: call it in an async function that "
    "asyncio.run() runs"
)


def a_client() -> AsyncQueueClient:
    return AsyncQueueClient(api_key=KEY, model="veo-3", base_url="http://127.0.0.1:9")


async def _enter(client: AsyncQueueClient) -> None:
    async with client:
        pass


UNDER_TRIO: dict[str, Callable[[AsyncQueueClient], Any]] = {
    "submit": lambda client: client.submit("a reef"),
    "wait_for": lambda client: client.wait_for("reef"),
    "async with": _enter,
    "aclose": lambda client: client.aclose(),
}


@pytest.mark.parametrize("call", UNDER_TRIO.values(), ids=UNDER_TRIO.keys())
def test_client_under_trio_says_so(call: Callable[[AsyncQueueClient], Any]) -> None:
    async def main() -> None:
        await call(a_client())

    for run in (trio.run, lambda main: anyio.run(main, backend="trio")):
        with pytest.raises(ClientStateError) as caught:
            run(main)
        assert TRIO == str(caught.value)
        assert isinstance(caught.value, RuntimeError)


WITHOUT_LOOP: dict[str, Callable[[AsyncQueueClient], Any]] = {
    "as_completed": lambda client: client.as_completed(["reef"]),
    "generate_many": lambda client: client.generate_many(["a reef"]),
    "watch": lambda client: client.watch("reef"),
    "notify": lambda client: client.notify("reef"),
    "expected": lambda client: client.expected("reef"),
}


@pytest.mark.parametrize("call", WITHOUT_LOOP.values(), ids=WITHOUT_LOOP.keys())
@pytest.mark.parametrize("with_trio", [True, False])
def test_client_without_a_loop_says_so(
    call: Callable[[AsyncQueueClient], Any], monkeypatch: pytest.MonkeyPatch, *, with_trio: bool
) -> None:
    if not with_trio:
        monkeypatch.delitem(sys.modules, "trio")

    with pytest.raises(ClientStateError) as caught:
        call(a_client())

    assert NONE == str(caught.value)


@pytest.mark.anyio
async def test_client_works_in_a_program_that_has_imported_trio(url: str) -> None:
    async with on_socket(url) as client:
        await client.generate("a reef")

    assert "trio" in sys.modules

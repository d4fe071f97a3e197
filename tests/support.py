"""What several test modules need: clients set up for tests, and looks at what they did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from virtual_time import VIRTUAL

from modelmax_async import (
    AsyncQueueClient,
    MemoryLedger,
    PollPolicy,
    Result,
    RetryPolicy,
    Video,
)
from modelmax_async._http import ClientOrTransport, HTTPClient
from modelmax_async._settings import ApiKey, read_settings
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.ledger import Key, Move, Step

KEY = "sk-emulator"
FAST = PollPolicy(initial=0.02, maximum=0.05)
IMPATIENT = RetryPolicy(initial=0.02, maximum=0.05)

in_virtual_time = pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["virtual"])


@asynccontextmanager
async def in_process(emulator: Emulator, **options: Any) -> AsyncIterator[AsyncQueueClient]:
    """A client of the emulator without a socket, for virtual time."""
    here: dict[str, Any] = {"model": "veo-3", "base_url": "http://127.0.0.1", "api_key": KEY}
    async with (
        emulator.transport() as transport,
        AsyncQueueClient(**({"http_client": transport} | here | options)) as client,
    ):
        yield client


def on_socket(url: str, **options: Any) -> AsyncQueueClient:
    """A client of an emulator on a real socket, with short intervals."""
    defaults: dict[str, Any] = {
        "model": "veo-3",
        "api_key": KEY,
        "poll": FAST,
        "retry": IMPATIENT,
    }
    return AsyncQueueClient(base_url=url, **(defaults | options))


def transport_to(
    url: str, http_client: ClientOrTransport | None = None, **options: Any
) -> HTTPClient:
    """A transport alone, without a client round it."""
    settings = read_settings(
        api_key=ApiKey(KEY),
        base_url=url,
        model=None,
        on_uncertain="raise",
        max_in_flight=options.pop("size", 4),
        allow_insecure=False,
        environ={},
    )
    return HTTPClient(settings, options.pop("timeout", 1.0), http_client)


class Moves(MemoryLedger):
    """Keeps the names of the moves, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    async def apply(self, key: Key, move: Move) -> Step | None:
        done = await super().apply(key, move)
        self.names.append(type(move).__name__)
        return done


def late(fault: Fault, seconds: float) -> Fault:
    """The same fault, that many seconds later."""
    return attrs.evolve(fault, change=lambda a: attrs.evolve(fault.change(a), hang=seconds))


def result_of(*urls: str, request_id: str = "reef") -> Result:
    """A result whose videos are at these addresses."""
    return Result(request_id, "veo-3", tuple(Video(url, i) for i, url in enumerate(urls)))


def names(directory: Path) -> list[str]:
    """What is in a directory, sorted."""
    return sorted(entry.name for entry in directory.iterdir())


async def until(condition: Callable[[], object]) -> None:
    """Wait for what happens on another side of a socket or a thread."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)

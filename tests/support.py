"""What several test modules need: clients set up for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from virtual_time import VIRTUAL

from modelmax_async import AsyncQueueClient, PollPolicy, RetryPolicy
from modelmax_async.emulator import Emulator

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
        AsyncQueueClient(http_client=transport, **(here | options)) as client,
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

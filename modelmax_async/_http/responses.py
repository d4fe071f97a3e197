"""What is made of a response, and how its connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import attrs
import httpx

from modelmax_async._api.messages import Reply

T = TypeVar("T")


@attrs.frozen
class Failed:
    """The error that a call ends in. It is raised where no handler leaves its frames behind."""

    error: Exception


def judge(read: Callable[[Reply], T], reply: Reply) -> T | Failed:
    """Return what ``read`` makes of a response, or the error that it raises."""
    try:
        return read(reply)
    except Exception as exc:  # noqa: BLE001 - it is raised once the connection is settled
        return Failed(exc)


async def close(response: httpx.Response, seconds: float | None) -> None:
    """Close a response, within a bound if one is given: a timer for each poll would cost."""
    if seconds is None:
        await response.aclose()
        return
    async with asyncio.timeout(seconds):
        await response.aclose()


async def disconnect(response: httpx.Response) -> None:
    """Close the connection before its pool gets it back; over HTTP/2 other calls share it."""
    stream = response.extensions.get("network_stream")
    if stream is not None and response.http_version != "HTTP/2":
        with suppress(Exception):
            await stream.aclose()

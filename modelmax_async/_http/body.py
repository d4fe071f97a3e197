"""Reading a response body of unknown size: bounded in memory, and no paid byte dropped."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import BinaryIO

import httpx

from modelmax_async._api.messages import MAX_BODY, Reply
from modelmax_async._runtime.threads import in_thread

#: Bytes of a paid response that are kept on disk at most.
MAX_KEPT = 4 * 1024 * 1024 * 1024


class OversizedError(Exception):
    """The body of a free call is above the bound."""


async def read_whole(response: httpx.Response, host: str, *, keep: bool) -> Reply:
    """Return a response with its whole body, as `read_body` reads it."""
    if response.is_stream_consumed:  # and decompressed, by a hook of the caller's client
        headers = {k: v for k, v in response.headers.items() if k != "content-encoding"}
        return Reply(response.status_code, headers, response.content, host=host)
    body, kept_at = await read_body(response.stream, keep=keep)  # type: ignore[arg-type]  # an async client's
    return Reply(response.status_code, response.headers, body, kept_at, host)


async def read_body(stream: AsyncIterable[bytes], *, keep: bool) -> tuple[bytes, str | None]:
    """Return the raw body; above `MAX_BODY`, its beginning and the file that has more of it.

    Only a body to ``keep``, which is paid for, is written to a file. If that fails, the part
    that fits into memory is returned. Other oversized bodies are an `OversizedError`.
    """
    chunks: list[bytes] = []
    size = 0
    parts = aiter(stream)
    async for chunk in parts:
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            break
    else:
        return b"".join(chunks), None
    if not keep:
        raise OversizedError(f"the body is larger than {MAX_BODY} bytes")
    return await _keep(chunks, size, parts)


async def _keep(
    chunks: list[bytes], size: int, rest: AsyncIterable[bytes]
) -> tuple[bytes, str | None]:
    """Write the body to a file of its own (mode 0600), off the event loop."""
    try:
        number, path = await in_thread(
            lambda: tempfile.mkstemp(prefix="modelmax-result-", suffix=".body")
        )
    except OSError:
        return b"".join(chunks), None  # no room: the ledger keeps what is in memory
    try:
        await _write(number, chunks, size, rest)
    except OSError:  # a full disk
        if await in_thread(_drop_unless_larger, path, size):
            return b"".join(chunks), None
    return chunks[0], path


async def _write(
    number: int, chunks: list[bytes], size: int, rest: AsyncIterable[bytes]
) -> None:
    file = os.fdopen(number, "wb")
    try:
        await in_thread(file.write, b"".join(chunks))
        async for chunk in rest:
            await in_thread(file.write, chunk)
            size += len(chunk)
            if size > MAX_KEPT:
                break
        await in_thread(file.flush)
        await in_thread(os.fsync, number)
        await in_thread(file.close)
    except BaseException:
        # Not waited for: on a disk that hangs it would block, and hold up a closing client.
        threading.Thread(target=_close, args=(file,), daemon=True).start()
        raise


def _drop_unless_larger(path: str, size: int) -> bool:
    """Remove a file that holds no more than the memory does; return whether it was removed."""
    with suppress(OSError):
        if os.path.getsize(path) > size:  # noqa: PTH202 - it is a str all the way
            return False
        os.unlink(path)  # noqa: PTH108 - as above
    return True


def _close(file: BinaryIO) -> None:
    with suppress(OSError):
        file.close()

"""A local ModelMax on a socket, in a thread: for synchronous tests as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anyio.from_thread import start_blocking_portal

from modelmax_async.emulator import Emulator


@contextmanager
def served_in_thread(emulator: Emulator) -> Iterator[str]:
    """Serve an emulator on a free port until the block ends, and yield the base URL."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(emulator.serve()) as url,
    ):
        yield url

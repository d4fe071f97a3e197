"""The file that keeps a paid response which is too large for memory."""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

#: Bytes that are collected before they are written.
_BATCH = 256 * 1024


class KeptFile:
    """A file (mode 0600) that threads write to, in the order of `put`.

    What was `put` is written even if the task that waits for a thread is cancelled: whichever
    thread has the file next writes it.

    Attributes:
        path: where the file is as soon as something was written.
        size: how many bytes were `put`.
    """

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, f"modelmax-result-{uuid.uuid4().hex}.body")  # noqa: PTH118 - it is a str all the way
        self.size = 0
        self._waiting: deque[bytes | bytearray] = deque()
        self._unwritten = 0
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._closed = False

    @property
    def due(self) -> bool:
        """Whether enough bytes wait to be written."""
        return self._unwritten >= _BATCH

    def put(self, data: bytes | bytearray) -> None:
        """Take the next bytes, which must not change any more."""
        self._waiting.append(data)
        self.size += len(data)
        self._unwritten += len(data)

    def write(self) -> bool:
        """Write what was put, in a thread; return whether the disk took it."""
        self._unwritten = 0
        return self._do(self._write)

    def close(self) -> bool:
        """Write what was put, synchronise the file with the disk and close it, in a thread."""
        return self._do(self._finish)

    def close_soon(self) -> None:
        """Do the same without waiting for it: a disk that hangs holds up no closing client."""
        threading.Thread(target=self.close, daemon=True).start()

    def stored(self) -> int:
        """Return how many bytes the file holds, in a thread."""
        with suppress(OSError):
            return os.path.getsize(self.path)  # noqa: PTH202 - as above
        return 0

    def drop_soon(self) -> None:
        """Remove the file without waiting for it."""
        threading.Thread(target=self._drop, daemon=True).start()

    def _do(self, work: Callable[[], object]) -> bool:
        with self._lock:
            try:
                if not self._closed:
                    work()
            except OSError:
                self._waiting.clear()  # written later, it would leave a gap before it
                return False
        return True

    def _write(self) -> BinaryIO:
        if self._file is None:
            self._file = open(self.path, "xb", opener=_private)  # noqa: SIM115 - closed by _finish
        while self._waiting:
            self._file.write(self._waiting.popleft())
        self._file.flush()
        return self._file

    def _finish(self) -> None:
        try:
            os.fsync(self._write().fileno())
        finally:
            self._closed = True
            if self._file is not None:
                self._file.close()

    def _drop(self) -> None:
        self._waiting.clear()
        self.close()
        with suppress(OSError):
            os.unlink(self.path)  # noqa: PTH108 - as above


def find_directory() -> str:
    """Return the directory for such files, in a thread: Python tries which one it can use."""
    return os.path.abspath(tempfile.gettempdir())  # noqa: PTH100 - as above


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

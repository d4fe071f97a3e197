"""The ``.part`` file: opened by one writer at a time, and renamed only when it is whole.

Everything here blocks, and so runs in threads. A writer holds a lock on its file, not its
name: who gets the lock must look whether the name still stands for that file. Names come
and go in this order, so that two writers never share a video, wherever either of them dies:

1. Look for a ``.part``, and lock it. None there: create ``<name>.part``, which one process
   can, and lock that. Then look again: another may have been missed, as it was just being
   renamed to carry another mark, or this one has been.
2. Only the holder of the lock writes, renames or removes. Nothing is ever renamed to
   ``<name>.part``, so that what was created there is not replaced under its creator's hands.
3. Whole: fsync, rename over the video's name, fsync the directory. The lock goes last.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from modelmax_async._download.containers import MP4
from modelmax_async._download.directory import (
    NotAFileError,
    find_part,
    is_still,
    scan,
    sync_directory,
)
from modelmax_async._download.file_lock import RENAMES_OPEN, try_lock, unlock
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.names import Mark, part_name, read_mark, void_name
from modelmax_async._download.writeback import write_behind

_OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_CREAT | os.O_EXCL
_MODE = 0o666  # less the umask, as for any file of the user's


class RemovedError(FileNotFoundError):
    """The file has no name any more, or its directory has another one."""


class PartFile:
    """A locked ``.part``.

    Attributes:
        size: bytes that were there when it was opened.
        mark: what its bytes are the beginning of, ``None`` where nobody knows.
        replaces: the video that must be gone when this one is in place, if there is one.
    """

    def __init__(self, target: Path, path: Path, number: int) -> None:
        self._target = target
        self._path = path
        self._number: int | None = number
        self._guard = threading.Lock()  # a cancelled task leaves its thread running
        self.mark = read_mark(target.name, path.name)
        self.replaces: Path | None = None
        self.size = os.fstat(number).st_size

    @property
    def path(self) -> Path:
        """Where it is now."""
        return self._path

    def scan(self) -> Boxes:
        """Return the boxes of what is there, read from their headers."""
        with self._guard:
            return scan(self._open(), self.size)

    def begin(self, mark: Mark | None) -> None:
        """Empty it, for bytes of another version or of an unknown one."""
        with self._guard:
            os.ftruncate(self._open(), 0)
            self.size = 0
            self.mark = mark
            path = self._path_for(mark)
            if RENAMES_OPEN and path != self._path:
                self._path.rename(path)
                self._path = path

    def append(self, data: bytes | memoryview) -> None:
        """Write behind what is there."""
        with self._guard:
            number = self._open()
            os.lseek(number, self.size, os.SEEK_SET)
            before = self.size
            rest = memoryview(data)
            while rest:
                done = os.write(number, rest)
                self.size += done
                rest = rest[done:]
            write_behind(number, before, self.size)

    def finish(self, suffix: str = MP4) -> Path:
        """Put it in the video's place, for good: after this, no crash takes it back.

        Args:
            suffix: that of its container.

        Returns:
            The video's place.
        """
        place = self._target.with_suffix(f".{suffix}")
        with self._guard:
            number = self._open()
            try:
                os.fsync(number)
            except OSError:
                self._remove()  # what a disk refused to take is not gone on with
                raise
            if not is_still(self._path, number):
                raise RemovedError(
                    errno.ENOENT, "somebody moved or removed the .part file", str(self._path)
                )
            if not RENAMES_OPEN:  # pragma: no cover - Windows
                self._close(number)
            self._path.replace(place)
            sync_directory(place.parent)
            if self.replaces not in {None, place}:  # or a later call might find that instead
                self.replaces.unlink(missing_ok=True)
            if RENAMES_OPEN:  # pragma: no branch - Windows
                self._close(number)
        return place

    def leave(self) -> bool:
        """Close it; only what can be gone on with stays. Return whether it stayed."""
        with self._guard:
            if self._number is None:
                return False
            try:
                keep = self.mark is not None and self.size > 0
                keep = keep and is_still(self._path, self._number)
                if not keep:
                    self._remove()
            finally:
                self._close(self._number)
            return keep

    def _path_for(self, mark: Mark | None) -> Path:
        name = self._target.name
        if mark is not None:
            return self._target.with_name(part_name(name, mark))
        marked = read_mark(name, self._path.name) is not None
        return self._target.with_name(void_name(name)) if marked else self._path

    def _open(self) -> int:
        if self._number is None:
            raise ValueError("the .part file is closed")
        return self._number

    def _remove(self) -> None:
        self.mark = None
        with suppress(OSError):
            if is_still(self._path, self._open()):
                self._path.unlink()

    def _close(self, number: int) -> None:
        self._number = None
        _release(number)


def claim(target: Path) -> PartFile | None:
    """Open and lock the ``.part`` of a video; ``None``: another writer has it.

    Raises:
        OSError: the directory does not allow it.
    """
    path = find_part(target)
    created = path is None
    path = path or target.with_name(part_name(target.name, None))
    try:
        number = os.open(path, _OPEN | _CREATE if created else _OPEN, _MODE)
    except FileExistsError:
        return None  # another writer was quicker
    except FileNotFoundError:
        if created:
            raise
        return None  # as above
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise NotAFileError(f"{path} is not a file")
        if _lock(number, path, created=created):
            alone = find_part(target) == path
            if is_still(path, number):
                if alone:
                    return PartFile(target, path, number)
                if path.name == part_name(target.name, None):
                    path.unlink()
    except BaseException:
        _release(number)
        raise
    _release(number)
    return None


def _lock(number: int, path: Path, *, created: bool) -> bool:
    """Lock an open file; where there are no locks, leave nothing behind."""
    try:
        return try_lock(number)
    except OSError:
        if created:
            path.unlink()
        raise


def _release(number: int) -> None:
    with suppress(OSError):
        unlock(number)
    with suppress(OSError):  # what counts was synced before, and the descriptor is gone anyway
        os.close(number)

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

from modelmax_async._download._lock import RENAMES_OPEN, try_lock
from modelmax_async._download._mp4 import Boxes
from modelmax_async._download._names import Mark, is_part, part_name, read_mark, void_name
from modelmax_async._download._writeback import write_behind

_OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_CREAT | os.O_EXCL
_MODE = 0o666  # less the umask, as for any file of the user's


class NotAFileError(OSError):
    """Something that is no file stands where one should be."""


class PartFile:
    """A locked ``.part``.

    Attributes:
        size: bytes that were there when it was opened.
        mark: what its bytes are the beginning of, ``None`` where nobody knows.
    """

    def __init__(self, target: Path, path: Path, number: int) -> None:
        self._target = target
        self._path = path
        self._number: int | None = number
        self._guard = threading.Lock()  # a cancelled task leaves its thread running
        self.mark = read_mark(target.name, path.name)
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

    def finish(self) -> None:
        """Put it in the video's place, for good: after this, no crash takes it back."""
        with self._guard:
            number = self._open()
            try:
                os.fsync(number)
            except OSError:
                self._remove()  # what a disk refused to take is not gone on with
                raise
            if not _is_still(self._path, number):
                raise FileNotFoundError(
                    errno.ENOENT, "somebody removed the .part file", str(self._path)
                )
            if not RENAMES_OPEN:  # pragma: no cover - Windows
                self._close()
            self._path.replace(self._target)
            sync_directory(self._target.parent)
            self._close()

    def leave(self) -> bool:
        """Close it; only what can be gone on with stays. Return whether it stayed."""
        with self._guard:
            keep = self.mark is not None and self.size > 0
            if self._number is not None and not keep:
                self._remove()
            self._close()
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
            if _is_still(self._path, self._open()):
                self._path.unlink()

    def _close(self) -> None:
        number, self._number = self._number, None
        if number is not None:
            os.close(number)


def claim(target: Path) -> PartFile | None:
    """Open and lock the ``.part`` of a video; ``None``: another writer has it.

    Raises:
        OSError: the directory does not allow it.
    """
    path = _find(target)
    created = path is None
    path = path or target.with_name(part_name(target.name, None))
    try:
        number = os.open(path, _OPEN | _CREATE if created else _OPEN, _MODE)
    except (FileExistsError, FileNotFoundError):
        return None  # another writer was quicker
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise NotAFileError(f"{path} is not a file")
        if try_lock(number):
            alone = _find(target) == path
            if _is_still(path, number):
                if alone:
                    return PartFile(target, path, number)
                if path.name == part_name(target.name, None):
                    path.unlink()
    except BaseException:
        os.close(number)
        raise
    os.close(number)
    return None


def existing(target: Path) -> int | None:
    """Return the bytes of a video that is there and complete, ``None`` where none is.

    Raises:
        NotAFileError: for a directory or a device in its place.
    """
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise NotAFileError(f"{target} is not a file")
    number = os.open(target, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return found.st_size if scan(number, found.st_size).complete(found.st_size) else None
    finally:
        os.close(number)


def growth(target: Path) -> tuple[str, int] | None:
    """Return the name and the bytes of the ``.part`` that another writer has."""
    path = _find(target)
    try:
        return None if path is None else (path.name, path.stat().st_size)
    except FileNotFoundError:
        return None


def scan(number: int, size: int) -> Boxes:
    """Return the boxes of an open file, read from their headers."""
    boxes = Boxes()
    while (at := boxes.wants) < size:
        os.lseek(number, at, os.SEEK_SET)
        boxes.feed(os.read(number, 16), at)
        if boxes.wants == at:
            break
    return boxes


def sync_directory(path: Path) -> None:
    """Make the names in a directory last, where a system lets one ask for that."""
    with suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _find(target: Path) -> Path | None:
    """Return the ``.part`` of a video, rather one with a mark."""
    found: list[str] = []
    with os.scandir(target.parent) as entries:
        found = [entry.name for entry in entries if is_part(target.name, entry.name)]
    return target.with_name(max(found, key=lambda name: (len(name), name))) if found else None


def _is_still(path: Path, number: int) -> bool:
    """Whether the name stands for the open file; it may have been renamed or removed."""
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(number))

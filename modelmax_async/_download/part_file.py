"""The ``.part`` file: it has one writer at a time, and is renamed only when it is complete.

Everything here blocks, and so runs in threads. A writer locks its open file, not the name, so
after locking it must check that the name still belongs to that file. Names are created and
renamed by these rules, so that two writers never share a video, wherever either of them dies:

1. Look for a ``.part``, and lock it. If there is none, create ``<name>.part`` exclusively, and
   lock that. Then look again: the first look may have missed a file that was being renamed to
   carry other resume info, or the locked file may have been renamed.
2. Only the holder of the lock writes, renames or removes the file. No file is ever renamed to
   ``<name>.part``, so that a newly created one is not replaced before it is locked. The
   ``.part`` of another user is locked only to remove it, where users can do that.
3. A complete file is synced and renamed to the video's name, and the directory is synced. The
   lock is released last.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelmax_async._download.containers import MP4
from modelmax_async._download.directory import (
    find_part,
    is_same_file,
    scan,
    sync_directory,
)
from modelmax_async._download.file_lock import RENAMES_OPEN, try_lock, unlock_and_close
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.part_names import (
    ResumeInfo,
    part_name,
    read_resume_info,
    reset_name,
)
from modelmax_async._download.part_opening import open_part
from modelmax_async._download.room import check_room
from modelmax_async._download.shared_files import CAREFUL
from modelmax_async._download.writeback import write_behind

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | CAREFUL
_MODE = 0o666  # less the umask, as for any file of the user


class RemovedError(FileNotFoundError):
    """The file's name was removed, or now belongs to another file."""


class PartFile:
    """A locked ``.part``."""

    def __init__(self, target: Path, path: Path, number: int) -> None:
        self._target = target
        self._number: int | None = number
        self._guard = threading.Lock()  # the thread of a cancelled task may still run
        self.path = path
        self.size = os.fstat(number).st_size
        #: What the bytes belong to, ``None`` where they cannot be resumed.
        self.resume_info = read_resume_info(target.name, path.name)
        #: The saved video to remove when this one is in place.
        self.replaces: Path | None = None

    def scan(self) -> Boxes:
        """Return the boxes in the file; only their headers are read."""
        with self._guard:
            return scan(self._open(), self.size)

    def check_room(self, total: int | None) -> None:
        """Check that the disk has room for a video of so many bytes, if they are known."""
        check_room(self.path.parent, (total or 0) - self.size)

    def reset(self, info: ResumeInfo | None, total: int | None = None) -> None:
        """Empty the file, and put this resume info into its name.

        If the disk has no room for ``total`` bytes, the file is left as it is.
        """
        with self._guard:
            self.check_room(total)
            os.ftruncate(self._open(), 0)
            self.size = 0
            self.resume_info = info
            path = self._path_for(info)
            if RENAMES_OPEN and path != self.path:
                self.path.rename(path)
                self.path = path

    def append(self, data: bytes | memoryview) -> None:
        """Write at the end of the file."""
        with self._guard:
            number = self._open()
            check_room(self.path.parent, len(data))
            os.lseek(number, self.size, os.SEEK_SET)
            before = self.size
            rest = memoryview(data)
            while rest:
                done = os.write(number, rest)
                self.size += done
                rest = rest[done:]
            write_behind(number, before, self.size)

    def finish(self, suffix: str = MP4) -> Path:
        """Rename the file to the video's name, and return its path; no crash undoes that."""
        place = self._target.with_suffix(f".{suffix}")
        with self._guard:
            number = self._open()
            try:
                os.fsync(number)
            except OSError:
                self._remove()  # bytes that may not be on the disk are never resumed
                raise
            if not is_same_file(self.path, number):
                text = "another process moved or removed the .part file"
                raise RemovedError(errno.ENOENT, text, str(self.path))
            if not RENAMES_OPEN:  # pragma: no cover - Windows
                self._close_descriptor(number)
            with _replacing(place):
                self.path.replace(place)
            sync_directory(place.parent)
            if self.replaces not in {None, place}:  # or a later call might find that instead
                with _replacing(self.replaces):
                    self.replaces.unlink(missing_ok=True)
            if RENAMES_OPEN:  # pragma: no branch - Windows
                self._close_descriptor(number)
        return place

    def close(self) -> bool:
        """Unlock and close the file; return whether it is kept, for a later call to resume."""
        with self._guard:
            if self._number is None:
                return False
            try:
                keep = self.resume_info is not None and self.size > 0
                keep = keep and is_same_file(self.path, self._number)
                if not keep:
                    self._remove()
            finally:
                self._close_descriptor(self._number)
            return keep

    def _path_for(self, info: ResumeInfo | None) -> Path:
        name = self._target.name
        if info is not None:
            return self._target.with_name(part_name(name, info))
        had_info = read_resume_info(name, self.path.name) is not None
        return self._target.with_name(reset_name(name)) if had_info else self.path

    def _open(self) -> int:
        if self._number is None:
            raise ValueError("the .part file is closed")
        return self._number

    def _remove(self) -> None:
        self.resume_info = None
        with suppress(OSError):
            if is_same_file(self.path, self._open()):
                self.path.unlink()

    def _close_descriptor(self, number: int) -> None:
        self._number = None
        unlock_and_close(number)


def lock_part(target: Path) -> PartFile | None:
    """Open and lock the ``.part`` of a video; ``None`` when another writer holds it."""
    path = find_part(target)
    created = path is None
    path = path or target.with_name(part_name(target.name, None))
    number = _create(path) if created else open_part(path)
    if number is None:
        return None
    try:
        if _lock(number, path, created=created):
            alone = find_part(target) == path
            if is_same_file(path, number):
                if alone:
                    return PartFile(target, path, number)
                if path.name == part_name(target.name, None):
                    path.unlink()
    except BaseException:
        unlock_and_close(number)
        raise
    unlock_and_close(number)
    return None


def _create(path: Path) -> int | None:
    try:
        return os.open(path, _CREATE, _MODE)
    except FileExistsError:
        return None  # another writer created it first


def _lock(number: int, path: Path, *, created: bool) -> bool:
    """Lock an open file; where locks are not supported, remove a file just created."""
    try:
        return try_lock(number)
    except OSError:
        if created:
            path.unlink()
        raise


@contextmanager
def _replacing(place: Path) -> Iterator[None]:
    """Name the file that cannot be replaced, and the likely reason."""
    try:
        yield
    except PermissionError as exc:
        why = "if the directory is sticky, only the owner of a file can replace it"
        raise PermissionError(exc.errno, f"{exc.strerror}; {why}", str(place)) from None

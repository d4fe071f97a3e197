"""Reading a directory: which videos are saved, and which ``.part`` files there are."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import attrs

from modelmax_async._download.containers import MP4, SUFFIXES
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.part_names import is_part


class NotAFileError(OSError):
    """A directory, device or pipe has the name of the video or of its ``.part``."""


@attrs.frozen
class SavedVideo:
    """A saved video, and its size in bytes."""

    path: Path
    size: int


def find_video(target: Path) -> SavedVideo | None:
    """Return the complete video of any suffix, ``None`` if none is saved."""
    for suffix in SUFFIXES:
        path = target.with_suffix(f".{suffix}")
        with suppress(FileNotFoundError):  # another process may remove it after the stat
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                if suffix == MP4:
                    raise NotAFileError(f"{path} is not a file")
            elif _is_complete(path, status.st_size):
                return SavedVideo(path, status.st_size)
    return None


def _is_complete(path: Path, size: int) -> bool:
    """Return whether a file is a complete video, as far as its bytes can tell.

    Only an MP4 shows that it was cut off, for instance by an interrupted copy. A file of
    another container is taken to be complete: it is renamed to its name only then.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        boxes = scan(number, size)
    finally:
        os.close(number)
    return boxes.complete(size) or not (boxes.is_mp4 or boxes.is_text or boxes.is_blank)


def part_progress(target: Path) -> tuple[str, int] | None:
    """Return the name and size of the ``.part`` that another writer holds."""
    path = find_part(target)
    try:
        return None if path is None else (path.name, path.stat().st_size)
    except FileNotFoundError:
        return None


def scan(number: int, size: int) -> Boxes:
    """Return the boxes of an open file; only their headers are read."""
    boxes = Boxes()
    while (at := boxes.next_header) < size:
        os.lseek(number, at, os.SEEK_SET)
        boxes.feed(os.read(number, 16), at)
        if boxes.next_header == at:
            break
    return boxes


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash, where the system supports that."""
    with suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def find_part(target: Path) -> Path | None:
    """Return the ``.part`` of a video; one with resume info is preferred."""
    name = target.name
    start = f"{name}."
    every = os.listdir(target.parent)  # noqa: PTH208 - 100,000 Path objects would be too slow
    found = [entry for entry in every if entry.startswith(start) and is_part(name, entry)]
    return target.with_name(max(found, key=lambda each: (len(each), each))) if found else None


def is_same_file(path: Path, number: int) -> bool:
    """Return whether a path still names the open file: it may be renamed or removed."""
    try:
        named = path.lstat()
    except OSError:
        return False
    return os.path.samestat(named, os.fstat(number))

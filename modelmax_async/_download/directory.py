"""Looking at a directory: the video that is there, its ``.part``, and what either holds."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import attrs

from modelmax_async._download.containers import MP4, SUFFIXES
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.names import is_part


class NotAFileError(OSError):
    """Something that is no file stands where one should be."""


@attrs.frozen
class Found:
    """A video that is there, and its size in bytes."""

    path: Path
    size: int


def existing(target: Path) -> Found | None:
    """Return the video that is there and complete, whatever its suffix; ``None``: none is.

    Raises:
        NotAFileError: for a directory or a device in the place of an MP4.
    """
    for suffix in SUFFIXES:
        path = target.with_suffix(f".{suffix}")
        with suppress(FileNotFoundError):  # perhaps only after the stat: one that was replaced
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                if suffix == MP4:
                    raise NotAFileError(f"{path} is not a file")
            elif _is_video(path, status.st_size):
                return Found(path, status.st_size)
    return None


def _is_video(path: Path, size: int) -> bool:
    """Whether a file is a complete video, as far as its bytes can tell.

    Only an MP4 shows that it was cut off, by a copy that broke off for instance. A file of
    another container is taken for complete: here it got its name when it was.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        boxes = scan(number, size)
    finally:
        os.close(number)
    return boxes.complete(size) or not (boxes.begun or boxes.text or boxes.blank)


def growth(target: Path) -> tuple[str, int] | None:
    """Return the name and the bytes of the ``.part`` that another writer has."""
    path = find_part(target)
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


def find_part(target: Path) -> Path | None:
    """Return the ``.part`` of a video, rather one with a mark."""
    name = target.name
    start = f"{name}."
    every = os.listdir(target.parent)  # noqa: PTH208 - a hundred thousand Paths cost too much
    entries = [entry for entry in every if entry.startswith(start)]
    found = [entry for entry in entries if is_part(name, entry)]
    return target.with_name(max(found, key=lambda each: (len(each), each))) if found else None


def is_still(path: Path, number: int) -> bool:
    """Whether the name stands for the open file; it may have been renamed or removed."""
    try:
        named = path.lstat()
    except OSError:
        return False
    return os.path.samestat(named, os.fstat(number))

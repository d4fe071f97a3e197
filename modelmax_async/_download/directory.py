"""Reading a directory: which videos are saved, and which ``.part`` files there are."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import attrs

from modelmax_async._download.containers import MP4, SUFFIXES
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.part_names import is_part
from modelmax_async._download.shared_files import (
    NotAFileError,
    UntrustedFileError,
    open_trusted,
)

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NONBLOCK", 0)


@attrs.frozen
class SavedVideo:
    """A saved video, and its size in bytes."""

    path: Path
    size: int


def find_video(target: Path) -> SavedVideo | None:
    """Return the complete video of any suffix, ``None`` if none is saved.

    Raises:
        NotAFileError: the name of the MP4 is taken, by a directory for example.
        UntrustedFileError: a link or a file of another user has the name of the video.
    """
    for suffix in SUFFIXES:
        path = target.with_suffix(f".{suffix}")
        try:
            size = _complete_size(path)
        except FileNotFoundError:  # or another process removed it after the first look
            continue
        except NotAFileError:
            if suffix == MP4:
                raise
            continue
        if size is not None:
            return SavedVideo(path, size)
    return None


def find_replaced(target: Path) -> Path | None:
    """Return what `find_video` returns or refuses: the file that a new video replaces."""
    try:
        found = find_video(target)
    except UntrustedFileError as exc:
        return Path(exc.filename)
    return None if found is None else found.path


def _complete_size(path: Path) -> int | None:
    """Return the size of a file if it is a complete video, as far as its bytes can tell.

    Only an MP4 shows that it was cut off, for instance by an interrupted copy. A file of
    another container is taken to be complete: it is renamed to its name only then.
    """
    number = open_trusted(path, os.O_RDONLY, linked=True, foreign=True)
    try:
        size = os.fstat(number).st_size
        boxes = scan(number, size)
    finally:
        os.close(number)
    complete = boxes.complete(size) or not (boxes.is_mp4 or boxes.is_text or boxes.is_blank)
    return size if complete else None


def part_progress(target: Path) -> tuple[str, int] | None:
    """Return the name and size of the ``.part`` that another writer holds."""
    path = find_part(target)
    try:
        return None if path is None else (path.name, path.lstat().st_size)
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
        number = os.open(path, _DIRECTORY)
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

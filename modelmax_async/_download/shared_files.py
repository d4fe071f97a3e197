"""Opening files in a directory that other users may write to.

The names of a video and of its ``.part`` can be guessed, so that another user may create them
first: as a link to a file of this user, as a pipe that blocks whoever opens it, or as a file
that the other user can change later. A file is used only if it is a regular file under its own
name, and belongs to this user, to the superuser, or to the owner of the directory. These two
can replace any file in the directory anyway, and some network file systems give every file to
one owner.

In a directory of a group, whoever can write to it can replace any file as well, unless it is
sticky: there, the complete video of another user is used too. The ``.part`` of another user is
not, since this user would then write to it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: Never follow a link, and never wait for the other end of a pipe.
CAREFUL = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)
_SUPERUSER = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NotAFileError(OSError):
    """A directory, device or pipe has the name of the video or of its ``.part``."""


class UntrustedFileError(OSError):
    """A link, or a file of another user, has the name of the video or of its ``.part``."""


def open_trusted(path: Path, flags: int, *, linked: bool, foreign: bool) -> int:
    """Open an existing file, and return its descriptor.

    The file is checked before it is opened, for a clear error and because opening a device may
    have an effect, and again afterwards, because it may have been replaced.

    Args:
        path: the file.
        flags: as for `os.open`.
        linked: whether the file may have further names (hard links).
        foreign: whether the file may be one of which `is_foreign` is true.

    Raises:
        NotAFileError, UntrustedFileError: see there.
        FileNotFoundError: if the file does not exist.
    """
    status = path.lstat()
    _check(path, status, linked=linked, foreign=foreign)
    try:
        number = os.open(path, flags | CAREFUL)
    except PermissionError:
        if foreign and is_foreign(path, status):
            raise _untrusted(
                path, f"belongs to another user (uid {status.st_uid}) and cannot be read"
            ) from None
        raise
    try:
        _check(path, os.fstat(number), linked=linked, foreign=foreign)
    except BaseException:
        os.close(number)
        raise
    return number


def is_foreign(path: Path, status: os.stat_result) -> bool:
    """Return whether a file is another user's, in a directory where users can replace it."""
    mode = path.parent.stat().st_mode
    shared = bool(mode & _OTHERS_WRITE) and not mode & stat.S_ISVTX
    return shared and status.st_uid != _user(status)


def _user(status: os.stat_result) -> int:
    """Return this user, or the owner of the file where systems have no user ids."""
    return int(getattr(os, "geteuid", lambda: status.st_uid)())


def _check(path: Path, status: os.stat_result, *, linked: bool, foreign: bool) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _untrusted(path, "is a symbolic link, which is not followed")
    if not stat.S_ISREG(status.st_mode):
        raise NotAFileError(f"{path} is not a file")
    if status.st_nlink > 1 and not linked:
        raise _untrusted(path, "is a hard link to another file, which would be overwritten")
    directory = path.parent.stat()
    trusted = status.st_uid in {_user(status), _SUPERUSER, directory.st_uid}
    if not trusted and not (foreign and is_foreign(path, status)):
        raise _untrusted(path, f"belongs to another user (uid {status.st_uid})")
    if status.st_nlink > 1 and directory.st_mode & stat.S_ISVTX:
        # Elsewhere, whoever can make links can also rename this user's files. Here they cannot.
        raise _untrusted(path, "is a hard link to another file, perhaps to another video")


def _untrusted(path: Path, what: str) -> UntrustedFileError:
    return UntrustedFileError(errno.EPERM, f"{path} {what}", str(path))

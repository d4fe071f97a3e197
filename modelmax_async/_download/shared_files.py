"""Opening files in a directory that other users may write to.

The names of a video and of its ``.part`` can be guessed, so that another user may create them
first: as a link to a file of this user, as a pipe that blocks whoever opens it, or as a file
that the other user can change later. A file is used only if it is a regular file under its own
name, and belongs to this user, to the superuser, or to the owner of the directory. These two
can replace any file in the directory anyway, and some network file systems give every file to
one owner.
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


class NotAFileError(OSError):
    """A directory, device or pipe has the name of the video or of its ``.part``."""


class UntrustedFileError(OSError):
    """A link, or a file of another user, has the name of the video or of its ``.part``."""


def open_trusted(path: Path, flags: int, *, linked: bool) -> int:
    """Open an existing file, and return its descriptor.

    The file is checked before it is opened, for a clear error and because opening a device may
    have an effect, and again afterwards, because it may have been replaced.

    Args:
        path: the file.
        flags: as for `os.open`.
        linked: whether the file may have further names (hard links).

    Raises:
        NotAFileError, UntrustedFileError: see there.
        FileNotFoundError: there is no file.
    """
    _check(path, path.lstat(), linked=linked)
    number = os.open(path, flags | CAREFUL)
    try:
        _check(path, os.fstat(number), linked=linked)
    except BaseException:
        os.close(number)
        raise
    return number


def _check(path: Path, status: os.stat_result, *, linked: bool) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _untrusted(path, "is a symbolic link, which is not followed")
    if not stat.S_ISREG(status.st_mode):
        raise NotAFileError(f"{path} is not a file")
    if status.st_nlink > 1 and not linked:
        raise _untrusted(path, "is a hard link to another file, which would be overwritten")
    directory = path.parent.stat()
    user = getattr(os, "geteuid", lambda: status.st_uid)()
    if status.st_uid not in {user, _SUPERUSER, directory.st_uid}:
        raise _untrusted(path, f"belongs to another user (uid {status.st_uid})")
    if status.st_nlink > 1 and directory.st_mode & stat.S_ISVTX:
        # Elsewhere, whoever can make links can also rename this user's files. Here they cannot.
        raise _untrusted(path, "is a hard link to another file, perhaps to another video")


def _untrusted(path: Path, what: str) -> UntrustedFileError:
    return UntrustedFileError(errno.EPERM, f"{path} {what}", str(path))

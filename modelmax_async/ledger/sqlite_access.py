"""Whether the files of a ledger are this user's alone: SQLite believes what is in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from modelmax_async._errors import LedgerError

#: What SQLite keeps beside the file. It would copy a log that another user left there into it.
_BESIDE = ("-wal", "-shm", "-journal")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SHARE = (
    "or pass SQLiteLedger(path, shared=True) if you trust everybody who can write to it: they "
    "decide what counts as paid for"
)


def check_access(path: Path, *, shared: bool) -> None:
    """Check the files that SQLite would read, as far as they exist.

    They are not opened: closing a descriptor drops the locks of the process on a file. Readers
    are the owner's choice. Windows has neither owners nor modes of this kind.

    Args:
        path: the file of the ledger.
        shared: whether other users may own the files, and write to them.

    Raises:
        LedgerError: if another user made one of them or may change it, or if it is a link.
    """
    if not hasattr(os, "geteuid"):
        return
    user = os.geteuid()
    file = _linked(path, user)
    for each in (file, *(file.with_name(file.name + suffix) for suffix in _BESIDE)):
        found = _look(each)
        fault = None if found is None else _fault(each, found, None if shared else user)
        if fault is not None:
            raise _refused(path, fault)


def _linked(path: Path, user: int) -> Path:
    """Return the file that a symbolic link of this user or of root leads to."""
    found = _look(path)
    if found is None or not stat.S_ISLNK(found.st_mode):
        return path
    if found.st_uid not in {user, 0}:
        raise _refused(
            path, f"it is a symbolic link that user {found.st_uid} made. Use another path"
        )
    file = Path(os.path.realpath(path))
    if not path.exists():
        raise _refused(
            path,
            f"it is a symbolic link to {file}, which does not exist. Remove the link, or put "
            "the file back",
        )
    return file


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _fault(file: Path, found: os.stat_result, user: int | None) -> str | None:
    """Return what is wrong with a file, and what to do; ``None`` if it can be used.

    It must be the user's alone, unless ``user`` is ``None``.
    """
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        return f"{file} is not a regular file. Move it away"
    if user is not None and found.st_uid != user:
        return (
            f"{file} belongs to user {found.st_uid}, who can change what it says is paid for, "
            f"and this program runs as user {user}. If you trust the file, make it yours with "
            f"`chown {user}` or run as its owner, {_SHARE}. Otherwise move it away"
        )
    if user is not None and mode & _OTHERS_WRITE:
        return (
            f"other users can write to {file} (mode {mode:o}), and so change what it says is "
            f"paid for. If you trust the file, protect it with `chmod 600`, {_SHARE}"
        )
    if found.st_nlink > 1:
        return (
            f"{file} has {found.st_nlink} names (hard links), and SQLite damages a file that "
            "is used under two. Remove the other names, or use a copy"
        )
    return None


def _refused(path: Path, fault: str) -> LedgerError:
    return LedgerError(
        f"the ledger {path} was not opened, and no billed call was made: {fault}"
    )

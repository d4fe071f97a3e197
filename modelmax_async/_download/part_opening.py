"""Opening a ``.part``: that of another user is removed instead, where users can do that."""

from __future__ import annotations

import os
from pathlib import Path

from modelmax_async._download.directory import is_same_file
from modelmax_async._download.file_lock import try_lock, unlock_and_close
from modelmax_async._download.shared_files import (
    UntrustedFileError,
    is_foreign,
    open_trusted,
)


def open_part(path: Path) -> int | None:
    """Open an existing file; ``None`` if there is something to wait or to look for again.

    Raises:
        NotAFileError, UntrustedFileError: see `open_trusted`.
        OSError: the file cannot be opened.
    """
    try:
        return open_trusted(path, os.O_RDWR, linked=False, foreign=False)
    except FileNotFoundError:
        return None  # another writer renamed or removed it
    except (UntrustedFileError, PermissionError):
        if _clear_foreign(path):
            return None
        raise


def _clear_foreign(path: Path) -> bool:
    """Remove the ``.part`` of another user, if no writer holds it; ``False`` if it must stay.

    Its bytes are not resumed, since the other user could change them while they are used.
    """
    try:
        number = open_trusted(path, os.O_RDONLY, linked=False, foreign=True)
    except FileNotFoundError:
        return True  # another writer renamed or removed it
    except OSError:
        return False
    try:
        if not is_foreign(path, os.fstat(number)):
            return False
        if try_lock(number) and is_same_file(path, number):
            path.unlink()
    except OSError:  # NFS locks no file that is open for reading only
        return False
    finally:
        unlock_and_close(number)
    return True

"""The resident memory of this process, now and at its peak.

On Linux ``ru_maxrss`` is not enough: a child process starts with the peak of its parent.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_PROC = Path("/proc/self")


def resident() -> int:
    """Return the resident memory in bytes, or the peak if only that is known."""
    try:
        pages = int((_PROC / "statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak()
    return pages * resource.getpagesize()


def forget_peak() -> None:
    """Reset the peak, on systems that support it."""
    if sys.platform == "linux":
        (_PROC / "clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Return the peak of the resident memory in bytes."""
    if sys.platform == "linux":
        lines = (_PROC / "status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

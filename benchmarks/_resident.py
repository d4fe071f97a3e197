"""How much memory this process has, and has had at most.

``ru_maxrss`` alone would not do on Linux: a child begins with the peak of its parent.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_PROC = Path("/proc/self")


def resident() -> int:
    """Return the bytes of memory of this process; where only a peak is known, the peak."""
    try:
        pages = int((_PROC / "statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak()
    return pages * resource.getpagesize()


def forget_peak() -> None:
    """Have the peak count from now on, where the system can do that."""
    if sys.platform == "linux":
        (_PROC / "clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Return the most bytes that this process has had."""
    if sys.platform == "linux":
        lines = (_PROC / "status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

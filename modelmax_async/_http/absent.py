"""Remember that an optional module is not there.

The HTTP library asks for ``sniffio`` again at every lock and event, and Python looks through
the whole path again each time: some sixty file system calls for a poll, on the event loop.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec


def remember_absent(module: str) -> None:
    """Make further imports of a module that is not installed fail at once, as they would."""
    if module not in sys.modules and find_spec(module) is None:
        sys.modules[module] = None  # type: ignore[assignment]  # the documented way to say so

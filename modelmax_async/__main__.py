"""`python -m modelmax_async`, and the entry point `modelmax`: the command line."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from importlib.util import find_spec

_NEEDED = ("click", "platformdirs", "rich", "uvicorn")
_INTERRUPTED = 130  # 128 + SIGINT, as in shells


def main() -> None:
    """Run the command line, or print how to install it."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"modelmax: the command line needs {', '.join(missing)}: "
            'python -m pip install "modelmax-async[cli]"\n'
        )
        sys.exit(2)
    with suppress(AttributeError):  # a standard output that was replaced
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # as above
    before = signal.signal(signal.SIGTERM, _interrupt)
    # A background job inherits SIGINT as ignored, and SIGTERM would not end it.
    sigint = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from modelmax_async._cli.commands import cli  # noqa: PLC0415 - needs an extra

        cli(prog_name="modelmax")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, sigint)


def _interrupt(_number: int, _frame: object) -> None:
    """End on SIGTERM as on Ctrl-C: billed calls in progress are not cut off."""
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main()

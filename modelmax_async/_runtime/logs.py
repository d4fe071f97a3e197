"""``MODELMAX_LOG``: the log on standard error, for programs that do not configure logging."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

_log = logging.getLogger("modelmax_async")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO}
#: The unusable values that were warned about.
_refused: set[str] = set()


class StderrHandler(logging.Handler):
    """Writes to standard error what no handler of the application writes elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))
        # Asked for each record: the application may add its handlers later.
        self.addFilter(lambda record: not _is_handled(record.levelno))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)


def log_to_stderr(level: str) -> None:
    """Log at ``debug`` or ``info`` from here on; the value of ``MODELMAX_LOG``, if not empty.

    The first call of a process counts, so that a program can change the level afterwards. An
    unusable value is warned about once.
    """
    word = level.strip().lower()
    if not word or any(isinstance(each, StderrHandler) for each in _log.handlers):
        return
    if word in _LEVELS:
        _log.addHandler(StderrHandler())
        _log.setLevel(_LEVELS[word])
    elif word not in _refused:
        _refused.add(word)
        with suppress(Exception):  # not even for a broken log handler
            _log.warning("MODELMAX_LOG must be debug or info, got %.50r: it is ignored", level)


def _is_handled(level: int) -> bool:
    """Whether a handler of the application takes records of this level."""
    logger: logging.Logger | None = _log
    while logger is not None:
        for handler in logger.handlers:
            ours = isinstance(handler, StderrHandler | logging.NullHandler)
            if not ours and handler.level <= level:
                return True
        logger = logger.parent if logger.propagate else None
    return False

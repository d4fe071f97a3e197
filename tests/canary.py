"""The API key of the tests is a canary: a test that lets it out fails, and so does the session.

Watched are the log records of all libraries at DEBUG, the events, the errors with the local
variables of their tracebacks, and every file that the tests leave behind: ledgers, incomplete
videos, kept bodies, pickles.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import logging
import pickle
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import attrs
import pytest

from modelmax_async import Failed, ModelMaxError
from modelmax_async._runtime.hooks import Hooks
from modelmax_async.events import Event

#: The key; the emulator accepts it without further ado.
KEY = "sk-emulator"
#: What is searched at the end of the session, in the place of a test.
AFTER_ALL = "(after the last test)"
#: Tests in which the key is seen on purpose: the test, the beginning of where, and the reason.
ON_PURPOSE: tuple[tuple[str, str, str], ...] = (
    ("test_canary.py::", "", "it shows the key to see that it is found"),
    (
        "test_download_errors.py::test_key_in_a_response_header_is_not_shown",
        "log record of httpcore",
        "its server quotes the key in a header, and httpcore logs the headers of responses",
    ),
    (
        "test_http2.py::",
        "log record of hpack",
        "its server decodes the requests in this process; the client's side hides the key",
    ),
    (
        "test_readme.py::test_program_runs_unchanged_and_without_warnings",
        "file program.py",
        "the README shows the key of the emulator",
    ),
    (AFTER_ALL, "file docs", "the API reference shows the key of the emulator"),
)

_TESTS = str(Path(__file__).parent)
#: Below DEBUG, so that a level that a test sets is never taken for this one.
_EVERYTHING = logging.DEBUG - 1
_LARGEST = 64 * 1024 * 1024  # bytes of a file that are searched at a time
#: Of each test: the log records at DEBUG, and how many of each kind are checked.
_RECORDS, _OF_A_KIND = 100, 2


def spellings(key: str) -> tuple[str, ...]:
    """Return the key as it looks in texts and files: as it is, escaped and encoded."""
    plain, characters = key.encode(), [ord(character) for character in key]
    unreserved = "".join(f"%{each:02X}" for each in characters)
    escaped = "".join(f"\\u{each:04x}" for each in characters)
    dash = {"%2D", "%2d", "\\u002d", "\\u002D"}
    return (
        key,
        "\0".join(key),  # UTF-16 in either order of bytes
        *(key.replace("-", other) for other in sorted(dash)),
        *(_base64(plain, before) for before in range(3)),
        plain.hex(),
        unreserved,
        unreserved.lower(),
        escaped,
        quote(key.replace("-", "%2D")),
    )


def _base64(plain: bytes, before: int) -> str:
    """Return the digits of base64 that depend on nothing but the key after some bytes."""
    whole = base64.b64encode(bytes(before) + plain).decode().rstrip("=")
    start = -(-before * 8 // 6)
    return whole[start : (before + len(plain)) * 8 // 6]


_TEXTS = spellings(KEY)
_BYTES = tuple(text.encode() for text in _TEXTS)


def shows(found: str | bytes) -> bool:
    """Whether a text or the content of a file contains the key, in any spelling."""
    if isinstance(found, str):
        return any(spelling in found for spelling in _TEXTS)
    return any(spelling in found for spelling in _BYTES)


@attrs.define
class Canary:
    """Collects the places where the key was seen, each with the test that ran.

    Of a kind of record, event or error, only the first ones of a test are checked: the others
    say the same, and the tests are to stay fast.
    """

    hits: list[str] = attrs.field(factory=list)
    test: str = "(no test)"
    _seen: Counter[object] = attrs.field(factory=Counter)
    _searched: set[Path] = attrs.field(factory=set)

    def begin(self, test: str) -> None:
        """Start with the next test, with the log records of all libraries at DEBUG."""
        self.test = test
        self._seen.clear()
        logging.root.setLevel(_EVERYTHING)

    def end(self, directory: Path | None) -> list[str]:
        """Search the test's directory, and return the hits."""
        if any(test in self.test for test, _, _ in ON_PURPOSE):
            gc.collect()  # its errors must not be taken for those of the next test
        if directory is not None:
            self.search(directory)
        hits, self.hits[:] = self.hits[:], []
        return hits

    def check(self, where: str, *found: str | bytes) -> None:
        """Record a hit if any of the texts shows the key."""
        if any(map(shows, found)) and not self._is_on_purpose(where):
            self.hits.append(f"{self.test}: {where}")

    def _is_on_purpose(self, where: str) -> bool:
        return any(
            test in self.test and where.startswith(place) for test, place, _ in ON_PURPOSE
        )

    def _is_new(self, kind: object) -> bool:
        self._seen[kind] += 1
        return self._seen[kind] <= _OF_A_KIND

    def check_record(self, record: logging.LogRecord) -> None:
        """Check a log record with all its fields, and the errors that a handler would print."""
        self._seen[logging] += 1
        if self._seen[logging] == _RECORDS:
            logging.root.setLevel(logging.WARNING)
        if not self._is_new((record.name, record.msg)):
            return
        error = record.exc_info[1] if record.exc_info else None
        with contextlib.suppress(Exception):  # the arguments do not fit, or cannot be shown
            fields = (record.getMessage(), repr(vars(record)), *_texts(error))
            self.check(f"log record of {record.name}: {record.msg}", *fields)

    def check_event(self, event: Event) -> None:
        """Check a record that hooks are called with."""
        if self._is_new(type(event)):
            stored = json.dumps(event.to_dict())
            self.check(
                f"event {type(event).__name__}", repr(event), stored, pickle.dumps(event)
            )

    def check_error(self, error: ModelMaxError) -> None:
        """Check what an error shows, and what is stored of it."""
        name = type(error).__name__
        if not self._is_new(type(error)):
            return
        self.check(f"{name} and what caused it", *_texts(error))
        with contextlib.suppress(Exception):  # it holds what cannot be stored
            self.check(f"pickle of {name}", pickle.dumps(error))
        with contextlib.suppress(Exception):
            self.check(f"dict of {name}", json.dumps(Failed(None, error).to_dict()))

    def check_traceback(self, error: BaseException) -> None:
        """Check the local variables of all calls, except those of the tests themselves."""
        for each in _chain(error):
            for frame, line in traceback.walk_tb(each.__traceback__):
                code = frame.f_code
                if code.co_filename.startswith(_TESTS):
                    continue
                for name, value in frame.f_locals.items():
                    with contextlib.suppress(Exception):  # it cannot be shown
                        where = f"{code.co_filename}:{line}"
                        self.check(f"{name} in a traceback at {where}", repr(value))

    def search(self, directory: Path) -> None:
        """Search every file below a directory that was not searched before."""
        for path in directory.rglob("*"):
            if path not in self._searched and path.is_file() and not path.is_symlink():
                self._searched.add(path)
                with contextlib.suppress(OSError), path.open("rb") as file:
                    while data := file.read(_LARGEST):
                        self.check(f"file {path.relative_to(directory)}", data)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that a traceback of it shows."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo.append(each.__cause__ or (None if each.__suppress_context__ else each.__context__))
        if isinstance(each, BaseExceptionGroup):
            todo += each.exceptions


def _texts(error: BaseException | None) -> list[str]:
    found = []
    for each in _chain(error):
        with contextlib.suppress(Exception):
            found += [str(each), repr(each), *getattr(each, "__notes__", ())]
    return found


@contextmanager
def watched(canary: Canary) -> Iterator[None]:
    """Have everything checked that is logged, emitted or raised."""
    with pytest.MonkeyPatch.context() as patch:
        _watch_records(canary, patch)
        _watch_events(canary, patch)
        _watch_errors(canary, patch)
        yield
        logging.root.setLevel(logging.WARNING)


def _watch_records(canary: Canary, patch: pytest.MonkeyPatch) -> None:
    pass_on = logging.Logger.callHandlers

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        canary.check_record(record)
        if record.levelno >= _level_without_the_canary(self):
            pass_on(self, record)

    patch.setattr(logging.Logger, "callHandlers", call_handlers)


def _level_without_the_canary(logger: logging.Logger | None) -> int:
    while logger is not None:
        if logger.level not in {logging.NOTSET, _EVERYTHING}:
            return logger.level
        logger = logger.parent
    return logging.WARNING


def _watch_events(canary: Canary, patch: pytest.MonkeyPatch) -> None:
    emit = Hooks.emit

    def checked(self: Hooks, event: Event) -> None:
        canary.check_event(event)
        emit(self, event)

    patch.setattr(Hooks, "emit", checked)


def _watch_errors(canary: Canary, patch: pytest.MonkeyPatch) -> None:
    """Check each error at the end of its life, and what `pytest.raises` catches at once."""

    def finalize(self: ModelMaxError) -> None:
        with contextlib.suppress(Exception):
            canary.check_error(self)

    patch.setattr(ModelMaxError, "__del__", finalize, raising=False)
    raises = type(pytest.raises(ModelMaxError))
    leave: Callable[..., bool] = raises.__exit__

    def caught(
        self: Any,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, ModelMaxError):
            canary.check_traceback(error)
        return leave(self, kind, error, trace)

    patch.setattr(raises, "__exit__", caught)

"""Where prompts come from: arguments, and files that can be read twice."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import attrs

from modelmax_async._cli.formats import Row, rows_of

#: The suffixes of files of prompts.
SUFFIXES = (".txt", ".csv", ".jsonl", ".ndjson")
_IN_MEMORY = 1 << 20  # bytes of standard input or a pipe that are not put on the disk


@attrs.frozen
class Arguments:
    """Prompts that are arguments of the command."""

    prompts: Sequence[str]
    name: str = "argument"
    directory: Path = Path()

    def rows(self) -> Iterator[Row]:
        """Yield one row for each prompt."""
        return (Row(number, {"prompt": text}) for number, text in enumerate(self.prompts, 1))

    def where(self, line: int) -> str:
        """Return how to name a row in a message."""
        return f"prompt {line}"

    def close(self) -> None:
        """Nothing is open."""


class File:
    """A file of prompts that stays open, so that each pass reads the same file.

    Args:
        path: its path, or ``-`` for standard input, which is read as text.

    Raises:
        OSError: if it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else path
        self.directory = Path(path).parent
        self._suffix = Path(path).suffix.lower()
        self._file: IO[bytes]
        if path == "-":
            self._file = _copy(sys.stdin.buffer)
            return
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by close()
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            with self._file as pipe:
                self._file = _copy(pipe)

    def rows(self) -> Iterator[Row]:
        """Yield the rows, from the first one on."""
        self._file.seek(0)
        return rows_of(self._file, self._suffix)

    def where(self, line: int) -> str:
        """Return how to name a row in a message."""
        return f"{self.name}, line {line}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _copy(file: IO[bytes]) -> IO[bytes]:
    """Return a copy of what can be read only once."""
    copy: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by close()
    shutil.copyfileobj(file, copy)
    return copy


def is_file_argument(text: str) -> bool:
    """Whether an argument is a file, and not a prompt: so that no typing error costs money.

    It is one if it exists, has no space, or has the suffix of a file of prompts.
    """
    return (
        text == "-"
        or os.path.exists(text)  # noqa: PTH110 - a long prompt would be an OSError of Path.exists
        or not any(character.isspace() for character in text)
        or text.lower().endswith(SUFFIXES)
    )

"""The rows of a text file, a CSV file or a JSON Lines file, read line by line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

#: The columns of a file with a header, and the keys of a JSON object.
COLUMNS = (
    "prompt",
    "model",
    "key",
    "aspect_ratio",
    "resolution",
    "duration_seconds",
    "generate_audio",
    "sample_count",
    "negative_prompt",
    "image",
)
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_INTEGERS = ("duration_seconds", "sample_count")


class RowError(Exception):
    """A row cannot be used; ``line`` is where it begins, from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


@attrs.frozen
class Row:
    """One row: the line where it begins, and the fields that are set."""

    line: int
    fields: dict[str, Any]


def rows_of(lines: Iterable[bytes], suffix: str) -> Iterator[Row]:
    """Yield the rows of a file with this suffix, in lower case.

    Raises:
        RowError: for a line that is not UTF-8, or not of the format.
    """
    if suffix == ".csv":
        return _csv_rows(lines)
    if suffix in {".jsonl", ".ndjson"}:
        return _json_rows(lines)
    return _text_rows(lines)


def cell(name: str, text: str) -> Any:
    """Return the value of a parameter that is given as text.

    Raises:
        ValueError: if it must be a number, or true or false, and is not.
    """
    if name in _INTEGERS:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{name} must be an integer, got {text!r}") from None
    if name == "generate_audio":
        if text.lower() not in _WORDS:
            raise ValueError(f"{name} must be true or false, got {text!r}")
        return _WORDS[text.lower()]
    return text


def check_names(what: str, names: Iterable[str], allowed: tuple[str, ...]) -> None:
    """Refuse an unknown name with a `ValueError` that lists the allowed ones."""
    for name in names:
        if name not in allowed:
            raise ValueError(f"unknown {what} {name!r}; allowed: {', '.join(allowed)}")


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as exc:
            raise RowError(number, f"not UTF-8 text: {exc.reason}") from None


def _text_rows(lines: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(_decoded(lines), 1):
        prompt = line.strip()
        if prompt and not prompt.startswith("#"):
            yield Row(number, {"prompt": prompt})


def _json_rows(lines: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(_decoded(lines), 1):
        if line.strip():
            yield Row(number, _json_fields(number, line))


def _json_fields(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise RowError(number, f"not JSON: {exc}") from None
    if isinstance(found, str):
        return {"prompt": found}
    if not isinstance(found, dict):
        raise RowError(number, "must be a JSON object or a JSON string")
    try:
        check_names("key", found, (*COLUMNS, "extra"))
    except ValueError as exc:
        raise RowError(number, str(exc)) from None
    return {name: value for name, value in found.items() if value is not None}


def _csv_rows(lines: Iterable[bytes]) -> Iterator[Row]:
    reader = csv.reader(_decoded(lines), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if header is None:
                header = _header(line, cells)
            elif any(text.strip() for text in cells):
                yield Row(line, _csv_fields(line, header, cells))
            line = reader.line_num + 1
    except csv.Error as exc:
        raise RowError(line, f"not CSV: {exc}") from None


def _header(line: int, cells: list[str]) -> list[str]:
    header = [text.strip() for text in cells]
    try:
        check_names("column", header, COLUMNS)
    except ValueError as exc:
        raise RowError(line, str(exc)) from None
    if "prompt" not in header or len(set(header)) != len(header):
        raise RowError(line, "the header must have the column prompt, and each column once")
    return header


def _csv_fields(line: int, header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) > len(header):
        raise RowError(line, f"{len(cells)} cells, but the header has {len(header)} columns")
    texts = {name: text.strip() for name, text in zip(header, cells, strict=False)}
    try:
        return {name: cell(name, text) for name, text in texts.items() if text}
    except ValueError as exc:
        raise RowError(line, str(exc)) from None

"""Templates of file names: their fields, and what each leaves room for.

A text is split into parts: literal text and fields. Everything that is wrong with it is found
here, before any I/O. The ending ``.{suffix}`` is left out of the parts, since the container of
a video is known only later.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator

import attrs

from modelmax_async._download.containers import MP4, SUFFIXES
from modelmax_async._download.part_names import LONGEST_PART_ENDING
from modelmax_async._download.slugs import LONGEST_SLUG, MARK, SHORT_MARK

#: The most digits of an index.
INDEX_DIGITS = 6
#: Hexadecimal digits of ``{digest}``.
DIGEST = 8
_NAMES = ("key", "id", "digest", "index", "model", "suffix")
_LISTED = ", ".join(f"{{{name}}}" for name in _NAMES)
_INDEX_SPEC = re.compile(r"(?:0[1-9])?d?", re.ASCII)
_FORBIDDEN = frozenset('/\\:*?"<>|')
_MOST_BYTES = 255 - LONGEST_PART_ENDING  # of a name that ends in .mp4
_SHORTEST_SLUG = 12  # characters that a template must leave room for
# Templates in which a plain slug could be mistaken for another. K is a key or id, M a model and
# I the index; of the literal characters, 0 is a digit, - a hyphen, . one that no slug contains.
_AMBIGUOUS = re.compile(r"K[^.]*K|K[^.M-]*M|M[^.K-]*K|[KM]0*I|I0*[KM]")


@attrs.frozen
class Field:
    """A field of a template, and its format, which only ``{index}`` may have."""

    name: str
    spec: str = ""


Parts = tuple[str | Field, ...]


def parse(text: object) -> Parts:
    """Return the parts of a template, without the suffix.

    Raises:
        ValueError: says what is wrong with the text.
    """
    if not isinstance(text, str):
        raise ValueError(f"name must be a string or None, got {type(text).__name__}")  # noqa: TRY004 - the documented error for bad input
    try:
        parts = _without_suffix(tuple(_split(text)))
        _check_fields(parts)
        _check_literals(parts)
        slug_width(parts)
    except ValueError as exc:
        raise ValueError(f"name must {exc}, got {text!r:.200}") from None
    return parts


def field_names(parts: Parts) -> list[str]:
    """Return the names of the fields, in their order."""
    return [part.name for part in parts if isinstance(part, Field)]


def slug_width(parts: Parts) -> int:
    """Return the most characters that each slug may have.

    Raises:
        ValueError: if they are too few for a person to recognise a slug.
    """
    fields = field_names(parts)
    slugs = len({"key", "id", "model"} & set(fields))
    widths = [int(part.spec.strip("d") or 0) for part in parts if isinstance(part, Field)]
    fixed = len(f"_.{MP4}") + len(".") + max(INDEX_DIGITS, *widths)
    if "digest" in fields:
        fixed += DIGEST + (1 + SHORT_MARK) * ("key" in fields)
    else:
        fixed += (1 + MARK) * len({"key", "id"} & set(fields))
    literal = len(_literal_text(parts).encode())
    room = _MOST_BYTES - fixed - slugs * _SHORTEST_SLUG
    if literal > room:
        raise ValueError(f"have at most {room} bytes of literal text (UTF-8) beside its fields")
    return min(LONGEST_SLUG, (_MOST_BYTES - fixed - literal) // slugs)


def is_ambiguous(parts: Parts) -> bool:
    """Return whether two names could be equal although their slugs differ."""
    return _AMBIGUOUS.search(_outline(parts)) is not None


def _split(text: str) -> Iterator[str | Field]:
    """Split a template into literal text and fields, without empty or adjacent literals."""
    only = f"use only the fields {_LISTED}"
    literal = ""
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as exc:
        raise ValueError(f"be a template with the fields {_LISTED}: {exc}") from None
    for before, name, spec, conversion in parsed:
        literal += before
        if name is None:
            continue
        if name not in _NAMES:
            raise ValueError(only)
        if conversion or (spec and not (name == "index" and _INDEX_SPEC.fullmatch(spec))):
            raise ValueError(f"{only}; only {{index}} may have a format, such as {{index:03}}")
        if literal:
            yield literal
        literal = ""
        yield Field(name, spec or "")
    if literal:
        yield literal


def _without_suffix(parts: Parts) -> Parts:
    """Return the parts before ``.{suffix}``, which is appended if it is missing."""
    stem = list(parts)
    if stem[-1:] == [Field("suffix")]:
        dotted = stem[-2] if len(stem) > 1 else ""
        if not (isinstance(dotted, str) and dotted.endswith(".")):
            raise ValueError("have a dot before {suffix}")
        stem[-2:] = [dotted[:-1]] if dotted != "." else []
    if "suffix" in field_names(tuple(stem)):
        raise ValueError("have {suffix} only at its end")
    return tuple(stem)


def _check_fields(parts: Parts) -> None:
    fields = field_names(parts)
    if not {"key", "id"} & set(fields):
        raise ValueError("contain {key} or {id}, so that no two jobs share a file")
    if len(set(fields)) < len(fields):
        raise ValueError("contain each field only once")


def _check_literals(parts: Parts) -> None:
    literal = _literal_text(parts)
    control = any(unicodedata.category(char) in {"Cc", "Cs"} for char in literal)
    if control or not _FORBIDDEN.isdisjoint(literal):
        raise ValueError(
            'not contain a slash, a backslash, any of :*?"<>|, control characters or unpaired '
            "surrogates"
        )
    if _text_of(parts[0]).startswith("."):
        raise ValueError("not start with a dot")
    last = _text_of(parts[-1])
    if last.endswith((" ", ".")):
        raise ValueError("not have a space or dot before the suffix")
    _, dot, ending = last.rpartition(".")
    if dot and ending.lower() in SUFFIXES:
        raise ValueError(
            f"end in .{{suffix}} instead of .{ending}, because the server decides which "
            "container a video has"
        )


def _outline(parts: Parts) -> str:
    """Return a template with one letter for each field or literal character."""
    letters = {"key": "K", "id": "K", "model": "M", "index": "I", "digest": "0"}
    return "".join(
        letters[part.name] if isinstance(part, Field) else "".join(map(_kind, part))
        for part in parts
    )


def _kind(char: str) -> str:
    """Return the kind of a literal character.

    Any outside ASCII counts as a letter: file systems take some for others (``K``, U+212A, for
    ``k``), or ignore them.
    """
    if char in "0123456789":
        return "0"
    if char == "-":
        return "-"
    return "a" if char == "_" or char.isalnum() or not char.isascii() else "."


def _literal_text(parts: Parts) -> str:
    return "".join(map(_text_of, parts))


def _text_of(part: str | Field) -> str:
    return part if isinstance(part, str) else ""

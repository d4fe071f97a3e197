"""Texts from elsewhere inside a message: in one line, each sentence with one mark."""

from __future__ import annotations

_MARKS = (".", "!", "?", "…")


def plain(text: str) -> str:
    """Return a text in one line: what could forge a line, a colour or an order is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def sentence(text: str) -> str:
    """Return a text as the end of a sentence: with a full stop, unless it ends in a mark."""
    bare = text.rstrip()
    return bare if bare.endswith(_MARKS) else f"{bare}."


def clause(text: str) -> str:
    """Return a text for the middle of a sentence, or for parentheses: without a full stop."""
    bare = text.rstrip()
    return bare[:-1] if bare.endswith(".") and not bare.endswith("..") else bare

"""Texts from elsewhere inside a message: each sentence ends in one mark."""

from __future__ import annotations

_MARKS = (".", "!", "?", "…")


def sentence(text: str) -> str:
    """Return a text as the end of a sentence: with a full stop, unless it ends in a mark."""
    bare = text.rstrip()
    return bare if bare.endswith(_MARKS) else f"{bare}."


def clause(text: str) -> str:
    """Return a text for the middle of a sentence, or for parentheses: without a full stop."""
    bare = text.rstrip()
    return bare[:-1] if bare.endswith(".") and not bare.endswith("..") else bare

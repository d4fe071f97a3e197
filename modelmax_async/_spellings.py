"""The spellings of a secret: as it is, or with the escapes of JSON or of a URL."""

from __future__ import annotations

import re

#: The most characters of a body that are searched for escapes, which takes a few milliseconds.
_MOST = 64 * 1024


class Spellings:
    """A secret in printable ASCII, and what finds it in any spelling, escaped twice too."""

    __slots__ = ("_escaped", "_plain", "_secret", "_signs")

    def __init__(self, secret: str) -> None:
        self._secret = secret
        backslash = b"\\" if set(secret) & set('/"\\') else b"\\u00"
        self._signs = (b"%", backslash, secret.encode("ascii"))  # the cheapest first
        self._plain = re.compile(re.escape(secret))
        self._escaped: re.Pattern[str] | None = None  # compiled when it is needed

    def may_be_in(self, body: bytes) -> bool:
        """Whether a body in UTF-8 shows any sign of the secret."""
        return any(sign in body for sign in self._signs)

    def finder(self, text: str, *, escaped: bool) -> re.Pattern[str] | None:
        """Return what finds the secret, also where it is ``escaped``, or ``None``."""
        if not escaped:
            return self._plain if self._secret in text else None
        if self._escaped is None:
            self._escaped = re.compile("".join(map(_spellings_of, self._secret)))
        return self._escaped


class Search:
    """A search for a secret in all texts of one body, or in a text alone.

    Texts with escapes are searched for any spelling as long as they have 64 Ki characters
    together. After that, the secret is only found as it is.
    """

    __slots__ = ("_left", "_spellings")

    def __init__(self, spellings: Spellings) -> None:
        self._spellings = spellings
        self._left = _MOST

    def finder(self, text: str) -> re.Pattern[str] | None:
        """Return what finds the secret in the next text; ``None`` if it is not there."""
        escaped = len(text) <= self._left and ("\\" in text or "%" in text)
        if escaped:
            self._left -= len(text)
        return self._spellings.finder(text, escaped=escaped)


def _spellings_of(character: str) -> str:
    """Return a pattern; its search takes time in proportion to the length of the text."""
    plain, digits = re.escape(character), f"{ord(character):02x}"
    code = "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in digits)
    return rf"(?:{plain}|\\{{1,8}}(?:u00{code}|{plain})|%(?:25){{0,8}}{code})"

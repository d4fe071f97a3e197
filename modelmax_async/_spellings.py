"""The spellings of a secret: as it is, or with the escapes of JSON or of a URL."""

from __future__ import annotations

import re

#: The most characters that are searched for escapes, which takes a few milliseconds.
_MOST = 64 * 1024


class Spellings:
    """A secret in printable ASCII, which is found in any spelling, escaped several times too.

    In a text of more than 64 Ki characters, it is only found as it is.
    """

    __slots__ = ("_pattern", "_secret", "_signs")

    def __init__(self, secret: str) -> None:
        self._secret = secret
        backslash = b"\\" if set(secret) & set('/"\\') else b"\\u00"
        self._signs = (secret.encode("ascii"), b"%", backslash)
        self._pattern: re.Pattern[str] | None = None  # compiled when it is needed

    def may_be_in(self, body: bytes) -> bool:
        """Whether a body in UTF-8 shows any sign of the secret."""
        return any(sign in body for sign in self._signs)

    def replaced(self, text: str, by: str) -> str:
        """Return a text with the secret replaced."""
        text = text.replace(self._secret, by)
        if len(text) > _MOST or not ("\\" in text or "%" in text):
            return text
        if self._pattern is None:
            self._pattern = re.compile("".join(map(_spellings_of, self._secret)))
        return self._pattern.sub(by, text)


def _spellings_of(character: str) -> str:
    """Return a pattern; its search takes time in proportion to the length of the text."""
    plain, digits = re.escape(character), f"{ord(character):02x}"
    code = "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in digits)
    return rf"(?:{plain}|\\{{1,8}}(?:u00{code}|{plain})|%(?:25){{0,8}}{code})"

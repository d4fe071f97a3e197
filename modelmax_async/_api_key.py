"""The API key: it is read once, and never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import quote

from modelmax_async._errors import ConfigurationError
from modelmax_async._spellings import Search, Spellings

#: What a key is replaced by.
HIDDEN = "sk-..."
_VARIABLE = "MODELMAX_API_KEY"
_QUOTES = frozenset("\"'`")
#: A shorter key is not a secret.
_SHORTEST = 8
#: The most characters of an ordinary word of letters and underscores, such as one of the API.
_LONGEST_WORD = 19


class ApiKey:
    """The API key. Only `reveal` returns it; it is not in its repr and cannot be pickled."""

    __slots__ = ("_spellings", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._spellings = Spellings(value) if _is_secret(value) else None

    def reveal(self) -> str:
        """Return the key itself, for the Authorization header."""
        return self._value

    def search(self) -> Search | None:
        """Begin to look for the key in a body; ``None`` if the key need not be hidden."""
        return None if self._spellings is None else Search(self._spellings)

    def hide_in(self, text: str) -> str:
        """Return a text from elsewhere with the key replaced: see `Search`."""
        search = self.search()
        finder = None if search is None else search.finder(text)
        return text if finder is None else finder.sub(HIDDEN, text)

    def restore_in(self, url: str) -> str:
        """Return a URL of the API's own origin with the key where it was replaced.

        In a path, this is done only where it cannot change which path is meant.
        """
        if self._spellings is None:
            return url
        quoted = quote(self._value, safe="")
        path, mark, query = url.partition("?")
        if "%" not in path + quoted:
            path = path.replace(HIDDEN, quoted)
        return path + mark + query.replace(HIDDEN, quoted)

    def may_be_in(self, body: bytes) -> bool:
        """Whether a body in UTF-8 may contain the key; if not, it need not be looked for."""
        return self._spellings is not None and self._spellings.may_be_in(body)

    def __repr__(self) -> str:
        return "ApiKey('sk-…')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key cannot be pickled")


def _is_secret(value: str) -> bool:
    """Whether a key must be hidden. One that is an ordinary word would be found in any text."""
    is_word = value.replace("_", "").isalpha() and len(value) <= _LONGEST_WORD
    return len(value) >= _SHORTEST and not is_word


def read_key(api_key: object, environ: Mapping[str, str]) -> ApiKey | ConfigurationError:
    """Return the key, or the error for an unusable one, for `read_settings` to raise.

    It does not raise the error itself: a traceback would then have a frame with the key in it.
    """
    value = environ.get(_VARIABLE) if api_key is None else api_key
    if value is None or value == "":
        return ConfigurationError("no API key: set MODELMAX_API_KEY or pass api_key=")
    if not isinstance(value, str):
        return ConfigurationError(f"api_key must be a string, got {type(value).__name__}")
    if (problem := _misread(value.strip())) is not None:
        name = _VARIABLE if api_key is None else "api_key"
        return ConfigurationError(f"{name} must be the key alone, such as sk-…: {problem}")
    if not (value.isascii() and value.isprintable()) or " " in value:
        return ConfigurationError(
            "the API key is malformed: it must be printable ASCII without spaces or line "
            "breaks (look for a stray newline where it was copied from)"
        )
    return ApiKey(value)


def _misread(text: str) -> str | None:
    """Return what was copied with the key, or in its place; ``None`` if nothing was."""
    if text[:6].lower() == "bearer":
        return "remove the word Bearer before it"
    if text[:1] in _QUOTES or text[-1:] in _QUOTES:
        return "remove the quotation marks around it"
    if _VARIABLE in text:
        return f"pass the value of {_VARIABLE}, not its name"
    if text in {"sk-…", HIDDEN}:
        return "this is the placeholder of the documentation"
    return None

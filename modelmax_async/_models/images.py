"""The image of a submit (API §1): its kinds, its size, its base64. No file is read here."""

import binascii
import os
from base64 import b64encode
from pathlib import Path

#: The most bytes of an image, before base64.
MAX_IMAGE = 20 * 2**20
#: The most characters of base64 that can hold that many bytes.
_MAX_TEXT = (MAX_IMAGE + 2) // 3 * 4

_INPUTS = "base64 text, bytes or a path"
_HINT = "pass a file as pathlib.Path(…)"


def as_image(
    value: str | bytes | bytearray | memoryview | os.PathLike[str] | None,
) -> str | Path | None:
    """Convert the image of `VideoParameters`; cattrs uses this as well.

    Returns:
        Bytes and base64 text as base64 text without whitespace, a path as a ``Path``.

    Raises:
        ValueError: if it is none of these, or the image is too large or of another kind.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _check_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return encode_image(bytes(value), "bytes")
    path = os.fspath(value) if isinstance(value, os.PathLike) else None
    if not isinstance(path, str):
        raise ValueError(f"image must be {_INPUTS}, got {type(value).__name__}")  # noqa: TRY004 - the documented error for bad input
    return Path(path)


def encode_image(data: bytes, source: str) -> str:
    """Return an image as base64 text; ``source`` says in errors what it came as.

    Raises:
        ValueError: if it is too large, or not a PNG, JPEG or WebP.
    """
    _check_bytes(data, source)
    return b64encode(data).decode("ascii")


def _check_bytes(data: bytes, source: str, hint: str = "") -> None:
    """Check the size and the first bytes: those of a PNG, a JPEG or a WebP."""
    if len(data) > MAX_IMAGE:
        raise _too_large(source)
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not webp and not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        raise ValueError(
            f"image must be a PNG, JPEG or WebP, got {source} of another kind{hint}"
        )


def _check_text(text: str) -> str:
    digits = "".join(text.split())
    if digits[:5].lower() == "data:":
        raise ValueError(
            f"image must be {_INPUTS}, got a data: URL; pass only the base64 after its comma"
        )
    if len(digits) > _MAX_TEXT:
        raise _too_large("base64 text")
    padded = digits + "=" * (-len(digits) % 4)
    try:
        # strict: a2b_base64 would otherwise skip the characters that it does not know
        data = binascii.a2b_base64(padded, strict_mode=True)
    except ValueError:
        raise ValueError(
            f"image must be {_INPUTS}, got text that is not base64 ({text!r:.60}); {_HINT}"
        ) from None
    _check_bytes(data, "base64 text", f"; {_HINT}")
    return padded


def _too_large(source: str) -> ValueError:
    limit = f"{MAX_IMAGE // 2**20} MiB"
    return ValueError(f"image must be at most {limit}, got a larger image as {source}")

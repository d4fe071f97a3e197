"""The image of a submit that is given as a path: read in a thread, just before the submit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs

from modelmax_async._models import VideoParameters
from modelmax_async._models.images import MAX_IMAGE, encode_image
from modelmax_async._runtime.threads import in_thread

#: Opening a FIFO does not wait for a writer; a terminal does not become that of this process.
_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


async def load_image(parameters: VideoParameters | None) -> VideoParameters | None:
    """Return the parameters with the image itself in place of its path; others unchanged.

    Raises:
        ValueError: if the file cannot be read, is too large, or is not a PNG, JPEG or WebP.
    """
    if isinstance(parameters, VideoParameters) and isinstance(parameters.image, Path):
        return await in_thread(_loaded, parameters, parameters.image)
    return parameters


def _loaded(parameters: VideoParameters, path: Path) -> VideoParameters:
    shown = repr(str(path))
    try:
        data = _read(path)
    except (OSError, ValueError) as exc:  # ValueError: no file can have such a name
        reason = getattr(exc, "strerror", None) or exc
        raise ValueError(
            f"image must be a readable PNG, JPEG or WebP file, got {shown}: {reason}"
        ) from exc
    if data is None:
        raise ValueError(f"image must be a regular file, got {shown}")
    try:
        return attrs.evolve(parameters, image=encode_image(data, "a file"))
    except ValueError as exc:
        raise ValueError(f"{exc}: {shown}") from None


def _read(path: Path) -> bytes | None:
    """Return the bytes of a regular file, at most one more than allowed; else ``None``."""
    number = os.open(path, _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return None
        with os.fdopen(number, "rb", closefd=False) as file:
            return file.read(MAX_IMAGE + 1)
    finally:
        os.close(number)

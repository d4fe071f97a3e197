"""The default keys of requests: a digest of each, and which occurrence of it this is.

The same command therefore gives the same keys again, whatever lines were inserted or moved. An
image file counts with its content: after an edit it is another request.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from modelmax_async._models import VideoRequest
from modelmax_async._models.images import MAX_IMAGE, encode_image

_DIGITS = 16
_canonical = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":")).encode


class Keys:
    """Gives each request of a batch its key; it keeps one number for each different request."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def next(self, digest: str) -> str:
        """Return the key of the next request that has this digest."""
        self._seen[digest] += 1
        return f"{digest}-{self._seen[digest]}"


def digest_of(request: VideoRequest) -> str:
    """Return 16 hexadecimal digits that identify the request.

    Raises:
        OSError: if its image cannot be read.
        ValueError: if its image is of another kind or too large, or its parameters cannot be
            sent as JSON.
    """
    parameters = request.parameters
    chosen: dict[str, Any] = {} if parameters is None else parameters.to_dict()
    image: object = None if parameters is None else parameters.image
    if isinstance(image, Path):
        stat = image.stat()
        chosen["image"] = {"sha256": _digest_of_file(image, stat.st_mtime_ns, stat.st_size)}
    try:
        text = _canonical([request.model, request.prompt, chosen])
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"the parameters cannot be sent as JSON: {exc}") from None
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


@functools.lru_cache(maxsize=1024)
def _digest_of_file(path: Path, _changed: int, _size: int) -> str:
    """Check an image and return its digest; it is read once unless it has changed."""
    with path.open("rb") as file:
        data = file.read(MAX_IMAGE + 1)
    encode_image(data, "a file")
    return hashlib.sha256(data).hexdigest()

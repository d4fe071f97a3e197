"""The stream of one video, for callers that pass its bytes on."""

from collections.abc import AsyncIterator
from typing import Self

from modelmax_async._reprs import always_shown


@always_shown
class VideoStream(AsyncIterator[bytes]):
    """An async iterator of a video's bytes; `AsyncQueueClient.stream` opens it.

    It ends after the last byte of a complete video, or raises a `DownloadError`. If a call of
    ``anext`` is cancelled, the next one continues with the same byte.

    Args:
        chunks: the bytes, in parts of any size.
        length: see the attribute.
        content_type: see the attribute.
        suffix: see the attribute.

    Attributes:
        length: how many bytes the video has, ``None`` if the server did not announce it. The
            iterator yields exactly as many, or raises.
        content_type: the media type for a ``Content-Type`` header: ``video/mp4``, or another
            plain ``video/*`` type that the server declared. It never has parameters or line
            breaks, and is never the type of a web page.
        suffix: what a file name ends with, without the dot, such as ``mp4`` or ``webm``.
    """

    __module__ = "modelmax_async"

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        *,
        length: int | None = None,
        content_type: str = "video/mp4",
        suffix: str = "mp4",
    ) -> None:
        self.length: int | None = length
        self.content_type: str = content_type
        self.suffix: str = suffix
        self._chunks = chunks

    def __repr__(self) -> str:
        size = "unknown length" if self.length is None else f"{self.length} bytes"
        return f"<VideoStream: {self.content_type}, {size}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

"""The methods about videos: into files, or as streams of bytes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from modelmax_async._client.engine import Engine
from modelmax_async._download import OnProgress
from modelmax_async._models import Result, Video


class FileMethods:
    """The part of the client that is about videos."""

    _engine: Engine

    async def download(
        self,
        result: Result,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Save every video of a result (API §4), whole or not at all.

        A video is written into a ``.part`` file beside its place, checked, and renamed when
        it is whole and on the disk. What broke off, or was cancelled, is gone on with by the
        next call where the server allows it, and started over where it does not. Nothing
        here is billed.

        Args:
            result: a result of this client.
            directory: where to; made if it is missing.
            on_progress: called on the event loop with the bytes done and the bytes expected
                of all videos together, ``None`` until every length is known.
            overwrite: fetch again what is already there, complete.

        Returns:
            The paths, in the order of ``result.videos``: ``<request id>-<index>.<suffix>``, the
            suffix being that of the container; an id that is not a plain lower-case word is
            cleaned and carries a digest.

        Raises:
            DownloadError: which says where the ``.part`` is and what to do. The other videos
                are saved all the same.
            ValueError: for an ``on_progress`` that would have to be awaited.
        """
        self._engine.tasks.bind()
        return await self._engine.downloads.save(
            result, Path(directory), on_progress, overwrite=overwrite
        )

    def stream(self, video: Video) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a video (API §4) as an async iterator of its bytes.

        The transfer is stopped when the context is left. While it is open it counts as one
        of the downloads that the client makes at once: half of ``max_in_flight``, and one
        beside the calls where that is 1.

        Args:
            video: one of ``Result.videos``.

        Raises:
            DownloadError: on entering, or from the iterator, when not all of it came:
                then the bytes that did are no whole video.
        """
        self._engine.tasks.bind()
        return self._engine.downloads.stream(video)

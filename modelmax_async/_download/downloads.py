"""Downloads of all videos of a result, each to its file, in tasks that the client owns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from modelmax_async._download.containers import MP4
from modelmax_async._download.errors import EXPECTED, download_error
from modelmax_async._download.fetcher import Fetcher
from modelmax_async._download.locking import locked_part
from modelmax_async._download.names import DEFAULT_TEMPLATE, NameTemplate
from modelmax_async._download.open_files import OpenFiles
from modelmax_async._download.part_file import PartFile
from modelmax_async._download.progress import OnProgress, Progress
from modelmax_async._download.sinks import FileSink, Report, StreamSink
from modelmax_async._download.sources import Source, SourceError, source_of
from modelmax_async._download.streams import VideoStream
from modelmax_async._download.transfer import MAX_BYTES
from modelmax_async._errors import ClientStateError, DownloadError, ModelMaxError
from modelmax_async._http import HTTPClient
from modelmax_async._models import Job, Result, Video
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff
from modelmax_async._runtime.tasks import Tasks
from modelmax_async._runtime.threads import finish_in_thread, in_thread
from modelmax_async._settings import Settings
from modelmax_async.events import VideoSaved

#: Seconds for which a cancelled transfer may take to close its file.
_GRACE = 5.0


@attrs.frozen
class Item:
    """One video to save."""

    what: str
    url: str
    source: Source | SourceError
    target: Path
    request_id: str
    job: Job | None
    max_bytes: int


class Downloads:
    """The downloads of one client."""

    def __init__(
        self, http: HTTPClient, tasks: Tasks, hooks: Hooks, settings: Settings, backoff: Backoff
    ) -> None:
        self._fetcher = Fetcher(http.receiver, settings, backoff, hooks)
        self._settings = settings
        self._tasks = tasks
        self._hooks = hooks
        self._give_up_after = backoff.policy.give_up_after
        self._open_files = OpenFiles(settings.max_in_flight)
        self._running: set[asyncio.Task[Any]] = set()

    async def save(
        self,
        result: Result,
        directory: Path,
        on_progress: OnProgress | None,
        *,
        overwrite: bool,
        max_bytes: int = MAX_BYTES,
        names: NameTemplate = DEFAULT_TEMPLATE,
        key: str | None = None,
    ) -> list[Path]:
        """Save every video; the arguments are those of ``AsyncQueueClient.download``.

        ``key`` is the key with which the job was submitted, ``None`` if it has none.
        """
        name_of = partial(
            names.file_name, request_id=result.request_id, key=key, model=result.model
        )
        items = [
            self._item(result, video, directory / name_of(index=video.index), max_bytes)
            for video in result.videos
        ]
        if len({item.target for item in items}) != len(items):
            raise ValueError("two videos of the result have the same index")
        progress = Progress(on_progress, len(items))
        task = self._spawn(self._save_all(items, progress, overwrite=overwrite))
        try:
            saved = await self._tasks.outcome(task)
        except asyncio.CancelledError:
            await _stop({task})
            raise
        return [directory / path.name for path in saved]

    @asynccontextmanager
    async def stream(self, video: Video) -> AsyncIterator[VideoStream]:
        """Stream a video; the argument is that of ``AsyncQueueClient.stream``."""
        what = f"video {video.index}"
        try:
            source = source_of(video.url, self._settings)
        except SourceError as exc:
            raise download_error(exc, what, url=video.url) from None
        sink = StreamSink()
        task = self._spawn(self._feed(source, sink, what))
        try:
            await sink.ready()
            yield VideoStream(
                sink,
                length=sink.total,
                content_type=sink.content_type,
                suffix=sink.suffix or MP4,
            )
        finally:
            await _stop({task})

    async def aclose(self) -> None:
        """Stop every transfer; each leaves a ``.part`` that can be resumed, or nothing."""
        for late in await _stop(self._running):
            self._tasks.forget(late)

    def _spawn(self, coro: Any) -> asyncio.Task[Any]:
        task = self._tasks.spawn(coro)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _item(self, result: Result, video: Video, target: Path, max_bytes: int) -> Item:
        what = f"video {video.index} of {result.request_id}"
        try:
            job = Job(result.model, result.request_id)
        except ValueError:  # the user made the result, without a model
            job = None
        try:
            source = source_of(video.url, self._settings)
        except SourceError as exc:
            return Item(what, video.url, exc, target, result.request_id, job, max_bytes)
        return Item(what, source.url, source, target, result.request_id, job, max_bytes)

    async def _save_all(
        self, items: Sequence[Item], progress: Progress, *, overwrite: bool
    ) -> list[Path]:
        """Save all videos; a failure of one does not stop the others."""
        if any(isinstance(item.source, Source) for item in items):
            made = await in_thread(_make, items[0].target.parent)
            if isinstance(made, OSError):
                raise download_error(made, "the result", url="")
            items = [attrs.evolve(item, target=made / item.target.name) for item in items]
        saving = [
            self._save(item, partial(progress.report, place), overwrite=overwrite)
            for place, item in enumerate(items)
        ]
        outcomes = await asyncio.gather(*saving, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"also failed: {other}")
            raise errors[0]
        return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]

    async def _save(
        self, item: Item, report: Report, *, overwrite: bool
    ) -> Path | DownloadError:
        """Save one video unless it is already saved, and return its path or the error.

        The error is not raised here: its traceback would hold the request.
        """
        if isinstance(item.source, SourceError):
            return download_error(item.source, item.what, url=item.url, job=item.job)
        try:
            async with locked_part(
                item.target,
                partial(self._open_files.place, item.source),
                overwrite=overwrite,
                give_up_after=self._give_up_after,
            ) as found:
                if isinstance(found, PartFile):
                    return await self._fill(item, item.source, found, report)
                report(found.size, found.size)
                return found.path
        except EXPECTED as exc:
            return download_error(exc, item.what, url=item.url, job=item.job)

    async def _fill(
        self, item: Item, source: Source, part: PartFile, report: Report
    ) -> Path | DownloadError:
        """Fetch a video into its ``.part`` and rename that, or return the error."""
        error: Exception | None = None
        try:
            sink = await FileSink.open(part, source.url, report, item.max_bytes)
            await self._fetcher.fill(source, sink, item.job)
            saved = await sink.finish()
        except EXPECTED as exc:
            error = exc.with_traceback(None)  # its frames hold the sink, and this one the error
        finally:
            kept = await finish_in_thread(part.close)
        if error is None:
            self._hooks.emit(VideoSaved(item.request_id, str(saved), sink.offset))
            return saved
        where = part.path if kept else None
        return download_error(error, item.what, url=item.url, part=where, job=item.job)

    async def _feed(self, source: Source, sink: StreamSink, what: str) -> None:
        """Fetch a video for the reader of a stream."""
        try:
            await self._fetcher.fill(source, sink)
            sink.close(None)
        except EXPECTED as exc:
            sink.close(download_error(exc, what, url=source.url))
        except ModelMaxError as exc:
            sink.close(exc)
        finally:  # cancelled, if it has not ended before
            sink.close(ClientStateError("the stream was closed before its end"))


def _make(directory: Path) -> Path | OSError:
    """Make the directory, and return its absolute path: the program may change directories.

    An error is returned: raised, its traceback would hold the frames of its waiters.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return directory.absolute()
    except OSError as exc:
        return exc


async def _stop(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Cancel transfers, wait until they close their files, and return those that do not."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return set()
    _, late = await asyncio.wait(set(tasks), timeout=_GRACE)
    return late

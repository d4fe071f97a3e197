"""Saving the videos of a result under the key of its job, and recording that."""

from __future__ import annotations

from pathlib import Path

import attrs

from modelmax_async._api.endpoints import parse_result
from modelmax_async._download import MAX_BYTES, Downloads, NameTemplate, OnProgress
from modelmax_async._errors import InvalidResponseError
from modelmax_async._models import Job, LedgerEntry, Result
from modelmax_async._polling.visits import Parts
from modelmax_async.ledger import Look, MarkSaved


@attrs.frozen
class Saving:
    """The downloads of one client, as its ledger knows them."""

    _downloads: Downloads
    _parts: Parts

    async def save(
        self,
        result: Result,
        directory: Path,
        on_progress: OnProgress | None = None,
        *,
        overwrite: bool = False,
        max_bytes: int = MAX_BYTES,
        names: NameTemplate,
    ) -> list[Path]:
        """Save every video; the arguments are those of ``AsyncQueueClient.download``."""
        job = _job_of(result)
        entry = None if job is None else await self._entry_of(job)
        key = None if entry is None else entry.job.key
        paths = await self._downloads.save(
            result,
            directory,
            on_progress,
            overwrite=overwrite,
            max_bytes=max_bytes,
            names=names,
            key=key,
        )
        if entry is not None and _is_whole(result, entry):
            await self._parts.tasks.run(self._parts.records.note(entry.job, MarkSaved()))
        return paths

    async def _entry_of(self, job: Job) -> LedgerEntry | None:
        """Return the entry of a result's job, as far as the ledger tells."""
        found = await self._parts.tasks.run(self._parts.records.note(job, Look(job)))
        return None if found is None else found.entry


def _is_whole(result: Result, entry: LedgerEntry) -> bool:
    """Whether a result has every video of the paid response."""
    if entry.body is None:
        return False
    try:
        return parse_result(entry.body, entry.job).videos == result.videos
    except InvalidResponseError:
        return False


def _job_of(result: Result) -> Job | None:
    """Return the job of a result; ``None`` if the user made the result, without a model."""
    try:
        return Job(result.model, result.request_id)
    except ValueError:
        return None

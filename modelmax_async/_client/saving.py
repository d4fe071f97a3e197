"""Saving the videos of a result under the key of its job, and recording that."""

from __future__ import annotations

from pathlib import Path

import attrs

from modelmax_async._download import Downloads, NameTemplate, OnProgress
from modelmax_async._models import Job, Result
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
        names: NameTemplate,
    ) -> list[Path]:
        """Save every video; the arguments are those of ``AsyncQueueClient.download``."""
        job = _job_of(result)
        key = None if job is None else await self._key_of(job)
        paths = await self._downloads.save(
            result, directory, on_progress, overwrite=overwrite, names=names, key=key
        )
        if job is not None:
            await self._parts.tasks.run(self._parts.records.note(job, MarkSaved()))
        return paths

    async def _key_of(self, job: Job) -> str | None:
        """Return the key that the job was submitted with, as far as the ledger knows."""
        found = await self._parts.tasks.run(self._parts.records.note(job, Look(job)))
        return None if found is None else found.entry.job.key


def _job_of(result: Result) -> Job | None:
    """Return the job of a result; ``None`` if the user made the result, without a model."""
    try:
        return Job(result.model, result.request_id)
    except ValueError:
        return None

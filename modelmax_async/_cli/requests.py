"""The requests of a batch: every row is checked before the first one is submitted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from modelmax_async._cli.formats import Row, RowError
from modelmax_async._cli.keys import Keys, digest_of
from modelmax_async._models import VideoParameters, VideoRequest
from modelmax_async._validators import check_prompt

_CHUNK = 64  # rows that are read in one go


class Source(Protocol):
    """Where rows come from; they can be read more than once."""

    @property
    def directory(self) -> Path:
        """The directory that the paths of images are relative to."""

    def rows(self) -> Iterator[Row]:
        """Yield the rows, from the first one on."""

    def where(self, line: int) -> str:
        """Return how a message names a row."""


class RequestError(Exception):
    """A row cannot be submitted; the message says where it is and why."""


@attrs.frozen
class Requests:
    """The requests of some sources, read anew by each iteration.

    Args:
        sources: where the rows come from.
        model: the model of rows that name none.
        parameters: the parameters of rows that do not set them.
    """

    sources: Sequence[Source]
    model: str | None = None
    parameters: Mapping[str, Any] = attrs.field(factory=dict)

    def __iter__(self) -> Iterator[VideoRequest]:
        """Yield the requests, each with its key.

        Raises:
            RequestError: for a row that cannot be submitted, or that gives the key of another
                request.
        """
        keys = Keys()
        named: dict[str, str] = {}
        for source in self.sources:
            line = 1
            try:
                for row in source.rows():
                    line = row.line
                    yield self._keyed(self._request(row, source.directory), keys, named)
            except RowError as exc:
                raise RequestError(f"{source.where(exc.line)}: {exc}") from None
            except (ValueError, OSError) as exc:
                raise RequestError(f"{source.where(line)}: {exc}") from None

    def check(self) -> int:
        """Read and check every row, and return how many requests there are.

        Raises:
            RequestError: as above.
        """
        return sum(1 for _ in self)

    async def stream(self) -> AsyncIterator[VideoRequest]:
        """Yield the requests; the rows are read in a thread, a few at a time."""
        requests = iter(self)
        while chunk := await asyncio.to_thread(_take, requests):
            for request in chunk:
                yield request

    def _request(self, row: Row, directory: Path) -> VideoRequest:
        """Return the request of a row; an unusable one is a `ValueError`."""
        fields = {**self.parameters, **row.fields}
        prompt = check_prompt(fields.pop("prompt", None))
        model, key = fields.pop("model", self.model), fields.pop("key", None)
        if model is None:
            raise ValueError("no model: pass --model, or set it in the row")
        if "image" in fields:
            fields["image"] = _path(fields["image"], directory)
        parameters = VideoParameters(**fields) if fields else None
        return VideoRequest(prompt, model, parameters, key)

    @staticmethod
    def _keyed(request: VideoRequest, keys: Keys, named: dict[str, str]) -> VideoRequest:
        """Return the request with its own key, or with the default one."""
        digest = digest_of(request)
        if request.key is None:
            return attrs.evolve(request, key=keys.next(digest))
        if named.setdefault(request.key, digest) != digest:
            raise ValueError(f"the key {request.key!r} is already the key of another request")
        return request


def _path(image: object, directory: Path) -> Path:
    if not isinstance(image, str):
        raise ValueError(f"image must be the path of a file, got {image!r:.100}")  # noqa: TRY004 - reported with its line
    path = directory / image
    if not path.is_file():
        raise ValueError(f"image must be the path of a file, and {str(path)!r} is none")
    return path


def _take(requests: Iterator[VideoRequest]) -> list[VideoRequest]:
    return list(itertools.islice(requests, _CHUNK))

"""Places for open files: other hosts and `data:` URLs have a share of them each."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from modelmax_async._download import open_files
from modelmax_async._download.open_files import OpenFiles
from modelmax_async._download.sources import Source

pytestmark = pytest.mark.anyio

OWN = Source("https://api.example/v", keyed=True)
OTHER = Source("https://cdn.example/v", keyed=False)
DATA = Source("data:video/mp4,AAAA", keyed=False)


async def placed(stack: AsyncExitStack, files: OpenFiles, source: Source) -> int:
    """Take places for files from a source until the next one has to wait; return how many."""
    for count in range(2000):
        try:
            async with asyncio.timeout(0):
                await stack.enter_async_context(files.place(source))
        except TimeoutError:
            return count
    raise AssertionError


@pytest.mark.parametrize(
    ("source", "max_in_flight", "most"),
    [(OWN, 32, 128), (OTHER, 32, 64), (DATA, 32, 8), (OWN, 400, 400), (OTHER, 400, 200)],
)
async def test_open_files_of_each_kind_are_bounded(
    source: Source, max_in_flight: int, most: int
) -> None:
    async with AsyncExitStack() as stack:
        assert most == await placed(stack, OpenFiles(max_in_flight), source)


async def test_files_of_the_api_wait_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "_COPIES", 2)
    files = OpenFiles(1)
    async with AsyncExitStack() as stack:
        taken = [await placed(stack, files, each) for each in (OTHER, DATA, OWN)]

    assert [64, 2, 62] == taken
    async with AsyncExitStack() as stack:
        assert 128 == await placed(stack, files, OWN)

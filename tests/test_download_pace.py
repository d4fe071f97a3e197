"""The least rate of a download: a drip is broken off, resumed, and soon an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from download_support import MIB, PATH, REEF, SAMPLE
from support import in_virtual_time, names, on_socket, result_of

from modelmax_async import (
    AsyncQueueClient,
    DownloadError,
    ResourceLimits,
    RetryPolicy,
    TransportError,
    Video,
)
from modelmax_async._download.pace import Pace
from modelmax_async._download.transfer import TransientError
from modelmax_async.events import CallRetried

pytestmark = [pytest.mark.anyio, in_virtual_time]

SLOW = "sent less than 1024 bytes a second over 60 s"
BODY = SAMPLE[:32] + (MIB - 32).to_bytes(4, "big") + b"mdat" + bytes(MIB - 40)


class Body(httpx.AsyncByteStream):
    """Sends ``pieces`` of so many bytes, one every ``seconds``; then the rest, or hangs up."""

    def __init__(
        self, body: bytes, pieces: Iterable[int], seconds: float, *, cut: bool
    ) -> None:
        self.body, self.pieces, self.seconds, self.cut = body, pieces, seconds, cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at = 0
        for size in self.pieces:
            await asyncio.sleep(self.seconds)
            yield self.body[at : at + size]
            at += size
        if self.cut and at < len(self.body):
            raise httpx.ReadError("the connection broke")
        yield self.body[at:]


class Server:
    """Answers each request with the bytes that it asks for, in the next of several manners."""

    def __init__(self, *manners: tuple[Iterable[int], float, bool], body: bytes = BODY) -> None:
        self.manners, self.body = manners, body
        self.ranges: list[str | None] = []
        self.events: list[object] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        pieces, seconds, cut = self.manners[min(len(self.ranges), len(self.manners) - 1)]
        asked = request.headers.get("range")
        self.ranges.append(asked)
        at = int(asked[6:-1]) if asked else 0
        total = len(self.body)
        headers = {"etag": '"a"', "content-length": str(total - at)}
        if asked:
            headers["content-range"] = f"bytes {at}-{total - 1}/{total}"
        stream = Body(self.body[at:], pieces, seconds, cut=cut)
        return httpx.Response(206 if asked else 200, stream=stream, headers=headers)

    def client(self, **options: object) -> AsyncQueueClient:
        defaults = {"timeout": None, "retry": RetryPolicy(), "hooks": [self.events.append]}
        transport = httpx.MockTransport(self.answer)
        return on_socket("http://127.0.0.1:1", http_client=transport, **(defaults | options))


def drip(seconds: float, size: int = 1) -> tuple[Iterable[int], float, bool]:
    return [size] * 2000, seconds, True


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("seconds", [0.5, 10.0, 1000.0])
async def test_drip_ends_in_an_error_after_all_attempts(tmp_path: Path, seconds: float) -> None:
    """Each attempt receives bytes beyond those before, and yet makes no progress."""
    server = Server(drip(seconds))
    async with server.client() as client:
        with pytest.raises(DownloadError, match=rf"{SLOW}.*call download\(\) again later"):
            await client.download(result_of(PATH), tmp_path)
        ended = now()

    retried = [event.cause for event in server.events if isinstance(event, CallRetried)]

    assert 4 == len(server.ranges)
    assert 4 * 60 <= ended <= 4 * 61 + 3
    assert 3 == len(retried)
    assert all(SLOW in cause for cause in retried)


async def test_transfer_that_was_broken_off_is_resumed(tmp_path: Path) -> None:
    server = Server(drip(10.0), ([], 0.0, False))
    async with server.client() as client:
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert BODY == path.read_bytes()
    assert [None, "bytes=6-"] == server.ranges


async def test_connection_that_breaks_after_each_byte_is_no_progress(tmp_path: Path) -> None:
    server = Server(([1], 0.0, True))
    async with server.client() as client:
        with pytest.raises(DownloadError, match="interrupted") as caught:
            await client.download(result_of(PATH), tmp_path)

    assert isinstance(caught.value.__cause__, TransportError)
    assert len(server.ranges) < 12  # a short random delay may let a byte pass for progress


async def test_slow_server_above_the_least_rate_is_waited_for(tmp_path: Path) -> None:
    server = Server(([10_300] * 101, 10.0, False))
    async with server.client() as client:
        (path,) = await client.download(result_of(PATH), tmp_path)
        ended = now()

    assert BODY == path.read_bytes()
    assert 1010 <= ended
    assert [None] == server.ranges


async def test_interruptions_of_a_server_above_the_least_rate_never_end_the_download(
    tmp_path: Path,
) -> None:
    server = Server(([50_000], 10.0, True))
    async with server.client() as client:
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert BODY == path.read_bytes()
    assert 21 == len(server.ranges)


async def test_drips_do_not_hold_all_slots_for_long_transfers(tmp_path: Path) -> None:
    dripping, quick = Server(drip(1.0)), Server(([], 0.0, False))

    def answer(request: httpx.Request) -> httpx.Response:
        return (quick if request.url.path == "/quick" else dripping).answer(request)

    transport = httpx.MockTransport(answer)
    drips = result_of(*[f"/drip{number}" for number in range(8)], request_id="drips")
    async with on_socket(
        "http://127.0.0.1:1", http_client=transport, max_in_flight=8
    ) as client:
        held = asyncio.create_task(client.download(drips, tmp_path))
        await asyncio.sleep(1)
        await client.download(result_of("/quick"), tmp_path)
        ended = now()
        held.cancel()
        with suppress(asyncio.CancelledError):
            await held

    assert REEF in names(tmp_path)
    assert ended <= 2 * 62


async def test_slow_reader_of_a_stream_is_not_a_slow_server() -> None:
    server = Server(([32_768] * 32, 0.001, False))
    received = bytearray()
    async with server.client() as client, client.stream(Video(PATH, 0)) as chunks:
        async for chunk in chunks:
            received += chunk
            await asyncio.sleep(600)

    assert BODY == received
    assert [None] == server.ranges


async def test_least_rate_can_be_set(tmp_path: Path) -> None:
    limits = ResourceLimits(least_rate=1e-9, least_rate_seconds=7200.0)
    server = Server(([1] * 5, 3600.0, False))
    async with server.client(limits=limits) as client:
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert BODY == path.read_bytes()
    assert [None] == server.ranges


async def chunks_of(*steps: bytes | float) -> AsyncIterator[bytes]:
    for step in steps:
        if isinstance(step, bytes):
            yield step
        else:
            await asyncio.sleep(step)


async def test_burst_does_not_earn_more_than_the_seconds_of_the_least_rate() -> None:
    pace = Pace(ResourceLimits(), 4, 0)
    pace.begin()
    chunks = chunks_of(bytes(MIB), 59.0, b"x", 2.0, b"y")

    assert bytes(MIB) == await pace.next_chunk(chunks)
    assert b"x" == await pace.next_chunk(chunks)
    with pytest.raises(TransientError, match=SLOW):
        await pace.next_chunk(chunks)


async def test_time_in_which_the_sink_works_is_not_counted() -> None:
    pace = Pace(ResourceLimits(), 4, 0)
    pace.begin()
    chunks = chunks_of(b"x", 50.0, b"y")
    await pace.next_chunk(chunks)
    await asyncio.sleep(1000)

    assert b"y" == await pace.next_chunk(chunks)
    assert await pace.next_chunk(chunks) is None


@pytest.mark.parametrize(
    ("gained", "waited", "allowed"),
    [(1, 0.0, True), (61_000, 59.0, True), (60_000, 59.0, False)],
)
async def test_progress_is_judged_by_the_rate_since_the_last_one(
    gained: int, waited: float, *, allowed: bool
) -> None:
    pace = Pace(ResourceLimits(), 2, 100)
    pace.begin()
    pace.failed(100)
    await pace.next_chunk(chunks_of(waited, b"x"))

    assert allowed == pace.failed(100 + gained)

"""Helpers of the download tests: contents, servers, clients and ``.part`` files."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from raw_server import RawServer, answer

from modelmax_async import AsyncQueueClient, Result, RetryPolicy
from modelmax_async._download.part_names import ResumeInfo, part_name, source_digest
from modelmax_async.emulator import Content, Emulator, JobScript, sample_mp4

MIB = 1024 * 1024
SAMPLE = sample_mp4()
WEBM = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01webm" + bytes(range(256)) * 20
#: Digits of the SHA-256 of "reef", the id of most jobs here.
DIGEST = "3297cb78"
REEF = f"reef-{DIGEST}-0.mp4"
PATH = "/v1/queue/veo-3/requests/abc/content/0"


def content_of(content: Content, version: int = 0) -> bytes:
    return b"".join(content.window(0, content.total, version=version))


async def ready(
    client: AsyncQueueClient,
    emulator: Emulator,
    content: Content,
    videos: int = 1,
    request_id: str = "reef",
) -> Result:
    """Add a job with this content to the emulator, and fetch its result."""
    script = JobScript(content=content, videos=videos)
    return await client.wait_for(emulator.add_job(request_id, script=script))


def url_of(server: RawServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def part_of(directory: Path, least: int = 1) -> Path | None:
    for path in directory.glob("*.part"):
        with suppress(FileNotFoundError):  # it is renamed once its resume info is known
            if path.stat().st_size >= least:
                return path
    return None


def leave_part(directory: Path, resume_info: ResumeInfo | None, data: bytes) -> Path:
    path = directory / part_name(REEF, resume_info)
    path.write_bytes(data)
    return path


def resume_info_for(
    url: str, validator: str = '"a"', total: int | None = len(SAMPLE)
) -> ResumeInfo:
    return ResumeInfo(source_digest(url), validator, total)


QUICK = RetryPolicy(initial=0.001, maximum=0.002)

SOON = RetryPolicy(initial=0.001, maximum=0.002, give_up_after=0.5)


def webm(body: bytes = WEBM, *, etag: str | None = '"a"', delay: float = 0.0) -> Content:
    return Content(body=body, content_type="video/webm", etag=etag, delay=delay)


@asynccontextmanager
async def stuck_server(sent: int = 2 * MIB + MIB // 2) -> AsyncIterator[str]:
    """A server that sends the beginning of a video and then hangs."""
    size = 3 * MIB
    head = (
        b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00" + (size - 16).to_bytes(4, "big") + b"mdat"
    )
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            asyncio.IncompleteReadError, ConnectionError
        ):  # the client may disconnect
            await reader.readuntil(b"\r\n\r\n")
            first = answer(b"", 'etag: "a"', f"content-length: {size}", length=False)
            writer.write(first + head + bytes(sent - len(head)))
            await writer.drain()
            await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        done.set()
        server.close()


def begun(directory: Path) -> bool:
    try:
        return any(path.stat().st_size > 0 for path in directory.glob("*.part"))
    except FileNotFoundError:  # renamed before the stat
        return False


def data_url(kind: str, body: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"


PARTIAL = "206 Partial Content"

"""Download a large video: throughput, memory and the longest stall of the event loop.

The client is compared with a bare ``httpx`` stream that writes the same bytes into a file
without checks, threads or fsync: its event loop stalls during writes, and at the end the data
may not be on the disk. A third contender adds an fsync at the end, as the client does. A
minimal server runs in its own process. Each measurement runs in a new process, and the
fastest of a few rounds counts, since other work on the machine can only slow it down.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx

from benchmarks._local import in_child, serving
from benchmarks._report import Check, Report, table
from benchmarks._resident import forget_peak, peak, resident
from modelmax_async import AsyncQueueClient, Result, Video

_MIB = 1024 * 1024
_TICK = 0.002
_PATH = "/v1/queue/veo-3/requests/content/content"


def serve(lifetime: float) -> None:
    """Serve MP4-shaped bodies at ``…/content/<bytes>`` until the parent exits or time is up."""
    timer = threading.Timer(lifetime, os._exit, (0,))
    timer.daemon = True
    timer.start()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_respond, args=(connection,), daemon=True).start()


def _respond(connection: socket.socket) -> None:
    """Respond to one request and close the connection."""
    block = bytes(_MIB)
    with connection, contextlib.suppress(OSError):
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        size = int(request.split(b" ", 2)[1].rsplit(b"/", 1)[1])
        head = b"\x00\x00\x00\x14ftypisom\x00\x00\x00\x00isom"
        head += (size - len(head)).to_bytes(4, "big") + b"mdat"
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\nconnection: close\r\n"
            b'etag: "1"\r\ncontent-length: %d\r\n\r\n' % size + head
        )
        left = size - len(head)
        while left > 0:
            connection.sendall(block[:left])
            left -= len(block)


def server(lifetime: float = 600.0) -> AbstractContextManager[str]:
    """Run the server, and give its base URL."""
    return serving("benchmarks.download", "--serve", str(lifetime))


async def ours(url: str, size: int, directory: str) -> None:
    """Download with the client."""
    result = Result(f"r{size}", "veo-3", (Video(f"{_PATH}/{size}", 0),))
    async with AsyncQueueClient(api_key="sk-benchmark", base_url=url) as client:
        (path,) = await client.download(result, directory)
    assert path.stat().st_size == size


async def bare(url: str, size: int, directory: str, *, sync: bool = False) -> None:
    """Stream into a file with plain httpx."""
    path = Path(directory, f"bare{size}.mp4")
    async with (
        httpx.AsyncClient() as client,
        client.stream("GET", f"{url}{_PATH}/{size}") as response,
    ):
        with path.open("wb") as file:  # noqa: ASYNC230 - the baseline blocks the loop
            async for chunk in response.aiter_raw():
                file.write(chunk)
            assert file.tell() == size
            file.flush()
            if sync:
                os.fsync(file.fileno())


async def synced(url: str, size: int, directory: str) -> None:
    """Stream into a file with plain httpx, and sync it to disk."""
    await bare(url, size, directory, sync=True)


_CONTENDERS = {"bare": bare, "synced": synced, "ours": ours}


@contextlib.asynccontextmanager
async def _watched(stalls: list[float]) -> AsyncIterator[None]:
    """Record how late the event loop wakes up after each sleep."""

    async def tick() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(_TICK)
            stalls.append(time.perf_counter() - begun - _TICK)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()


async def measure(who: str, url: str, size: int, *, watch: bool) -> dict[str, Any]:
    """Download a small file as a warm-up, then measure a large one."""
    download = _CONTENDERS[who]
    stalls = [0.0]
    with tempfile.TemporaryDirectory() as directory:
        await download(url, _MIB, directory)
        forget_peak()
        before = resident()
        begun = time.perf_counter()
        async with _watched(stalls) if watch else contextlib.nullcontext():
            await download(url, size, directory)
        seconds = time.perf_counter() - begun
    return {
        "who": who,
        "bytes": size,
        "seconds": seconds,
        "mib_per_second": size / _MIB / seconds,
        "peak_growth_mib": (peak() - before) / _MIB,
        "longest_stall_ms": max(stalls) * 1000 if watch else None,
    }


def run(*, quick: bool = False) -> Report:
    """Measure the throughput of all contenders in turns, then the stalls of each."""
    size = (64 if quick else 512) * _MIB
    rounds = 1 if quick else 5
    rows: list[dict[str, Any]] = []
    with server() as url:
        for _ in range(rounds):
            rows += [in_child("benchmarks.download", who, url, size) for who in _CONTENDERS]
        watched = [
            in_child("benchmarks.download", who, url, size, "--watch") for who in _CONTENDERS
        ]
    summary = [_summary(rows, watch) for watch in watched]
    text = table(
        ("", "MiB/s", "peak memory grows", "longest stall"),
        [
            (
                row["who"],
                f"{row['mib_per_second']:.0f}",
                f"{row['peak_growth_mib']:.1f} MiB",
                f"{row['longest_stall_ms']:.1f} ms",
            )
            for row in summary
        ],
    )
    bare_speed, synced_speed, speed = (row["mib_per_second"] for row in summary)
    text += f"\n\nthroughput / bare httpx with an fsync: {speed / synced_speed:.2f}"
    checks = [
        Check("growth of memory, MiB", summary[-1]["peak_growth_mib"], "<=", 16),
        Check("longest stall of the event loop, ms", summary[-1]["longest_stall_ms"], "<=", 50),
        Check("throughput / bare httpx", speed / bare_speed, ">=", 0.8),
    ]
    return Report("download", [*rows, *watched], text, checks)


def _summary(rows: list[dict[str, Any]], watched: dict[str, Any]) -> dict[str, Any]:
    """Return a contender's highest throughput, largest growth and longest stall."""
    own = [row for row in rows if row["who"] == watched["who"]]
    return {
        **watched,
        "mib_per_second": max(row["mib_per_second"] for row in own),
        "peak_growth_mib": max(row["peak_growth_mib"] for row in [*own, watched]),
    }


def main() -> None:
    """Serve, measure in this process, or run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", nargs="?", choices=[*_CONTENDERS])
    parser.add_argument("url", nargs="?")
    parser.add_argument("size", nargs="?", type=int)
    parser.add_argument("--watch", action="store_true")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve)
    elif given.who is not None:
        done = asyncio.run(measure(given.who, given.url, given.size, watch=given.watch))
        print(json.dumps(done))
    else:
        report = run(quick=given.quick)
        report.show()
        print(json.dumps(report.to_dict()))


if __name__ == "__main__":
    main()

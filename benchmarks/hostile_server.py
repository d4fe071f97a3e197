"""A hostile queue server in its own process, for the benchmark `hostile`.

A request id is ``<attack>-<number>``. Each attack names the one call that it spoils; all other
calls get an honest response. The server is plain asyncio and listens on 127.0.0.1 only. It
exits when its standard input is closed, as happens when its parent process exits, or after
``lifetime`` seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from collections.abc import Callable

from benchmarks._local import end_of_parent
from benchmarks.hostile_answers import (
    MIB,
    MP4,
    SIZE,
    SMALL_VIDEO,
    Answer,
    answer,
    boxes,
    breaks_off,
    continues,
    data_video,
    drip,
    endless,
    gzipped,
    in_chunks,
    keys,
    lists,
    many_headers,
    repeated,
    report,
    result,
    zipped,
)

_LONG_URL = "https://films.example/" + "v" * SIZE
_DIGITS = "9" * 4290 + ","

SUBMITS: dict[str, Callable[[], Answer]] = {
    "submit_gzip": lambda: gzipped(lists("submit_gzip-0", "IN_QUEUE")),
    "submit_error": lambda: answer(
        b'{"error":{"message":"no","type":"bad_request"' + repeated("[],").encode() + b"}}",
        status="400 Bad Request",
    ),
    "submit_path": lambda: answer(
        report("submit_path-0", "IN_QUEUE", f',"status_url":"{"/a" * 29_000}"'),
        status="202 Accepted",
    ),
}
STATUSES: dict[str, Callable[[str], Answer]] = {
    "missing": lambda _: answer(b'{"error":{"message":"no"}}', status="404 Not Found"),
    "waiting_gzip": lambda name: gzipped(lists(name, "IN_PROGRESS")),
    "waiting_60k": lambda name: answer(
        report(name, "IN_PROGRESS", ',"x":"' + "a" * 60_000 + '"')
    ),
    "status_lists": lambda name: answer(lists(name, "IN_PROGRESS")),
    "status_failed": lambda name: answer(
        report(name, "FAILED", ',"error":"' + "a" * SIZE + '"')
    ),
    "status_chunks": lambda name: in_chunks(report(name, "COMPLETED", " " * MIB)),
    "status_continue": lambda _: continues(),
    "status_headers": lambda name: many_headers(report(name, "COMPLETED")),
}
RESULTS: dict[str, Callable[[str], Answer]] = {
    "unreadable": lambda _: answer(b"<html>"),
    "result_lists": lambda name: answer(lists(name, "COMPLETED")),
    "result_gzip": lambda name: gzipped(lists(name, "COMPLETED")),
    "result_blanks": lambda _: answer(zipped(64 * MIB), "content-encoding: gzip"),
    "result_keys": lambda name: answer(result(name, keys())),
    "result_digits": lambda name: answer(result(name, repeated(_DIGITS))),
    "result_entries": lambda name: answer(
        result(name, data="[" + ",".join(['{"url":""}'] * 700_000) + "]")
    ),
    "result_nested": lambda name: answer(
        result(name, ',"x":' + "[" * 4_000_000 + "]" * 4_000_000)
    ),
    "result_escapes": lambda name: answer(result(name, repeated("\\u0041", ',"x":"', '"'))),
    "result_id": lambda _: answer(result("%" * SIZE, data='[{"url":"/v"}]')),
    "result_percent": lambda name: answer(
        result(name, ',"x":[' + ",".join(['"' + "%" * 65_000 + '"'] * 125) + "]")
    ),
    "result_data": data_video,
    "result_many": lambda name: answer(
        result(name, data="[" + ",".join([f'{{"url":"{SMALL_VIDEO}"}}'] * 1000) + "]")
    ),
    "result_url": lambda name: answer(result(name, data=f'[{{"url":"{_LONG_URL}"}}]')),
    "result_chunks": lambda name: in_chunks(result(name, " " * (SIZE // 128))),
    "result_continue": lambda _: continues(),
    "result_headers": lambda name: many_headers(result(name)),
    "result_breaks": breaks_off,
}
CONTENTS: dict[str, Callable[[], Answer]] = {
    "content_endless": endless,
    "content_huge": lambda: endless(f"content-length: {10**19}"),
    "content_drip": drip,
    "content_chunks": lambda: in_chunks(
        MP4[:-16] + (MIB // 16).to_bytes(4, "big") + b"mdat" + bytes(MIB // 16 - 8),
        "content-type: video/mp4",
    ),
    "content_boxes": boxes,
    "content_headers": lambda: many_headers(b"<html>"),
    "content_continue": continues,
}


def respond(method: str, path: str, body: bytes) -> Answer:
    """Return the response to a request."""
    if method == "POST":
        return _submitted(json.loads(body)["prompt"])
    request_id = path.split("/")[5]
    attack = request_id.split("-")[0]
    if "/content/" in path:
        return CONTENTS.get(attack, _honest_video)()
    if path.endswith("/status"):
        return STATUSES.get(attack, _honest_status)(request_id)
    return RESULTS.get(attack, _honest_result)(request_id)


def _honest_status(request_id: str) -> Answer:
    return answer(report(request_id, "COMPLETED"))


def _honest_result(request_id: str) -> Answer:
    return answer(result(request_id))


def _honest_video() -> Answer:
    return answer(MP4, "content-type: video/mp4")


def _submitted(attack: str) -> Answer:
    if attack in SUBMITS:
        return SUBMITS[attack]()
    url = f"/v1/queue/veo-3/requests/{attack}"
    urls = f',"status_url":"{url}/status","response_url":"{url}"'
    return answer(report(attack, "IN_QUEUE", urls), status="202 Accepted")


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = request.decode().split(" ", 2)
            body = await reader.readexactly(_body_length(request))
            blocks = respond(method, path, body)
            for block in blocks:
                if isinstance(block, bytes):
                    writer.write(block)
                    await writer.drain()
                else:
                    await asyncio.sleep(block)
            if not isinstance(blocks, list):
                break  # only a response of a known length leaves its connection open
    writer.close()


def _body_length(request: bytes) -> int:
    for line in request.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def serve(lifetime: float) -> None:
    """Print the port, then serve until standard input is closed or the time is up."""
    over = end_of_parent(lifetime)
    server = await asyncio.start_server(_serve_one, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    os._exit(0)  # whatever is still sent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lifetime", type=float, default=300.0)
    asyncio.run(serve(parser.parse_args().lifetime))

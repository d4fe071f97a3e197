"""A minimal queue server in its own process, so that the server does not limit the clients.

An `asyncio.Protocol` implements just the HTTP/1.1 that the contenders need. A request id says
when its job is done: ``<milliseconds after the last reset>-<anything>``, or
``never-<anything>``. The server listens on 127.0.0.1 only. It exits when its standard input
is closed, as happens when its parent process exits, or after ``lifetime`` seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

_USAGE = {"video_seconds": 8, "video_resolution": "720p", "video_has_audio": True}


class Books:
    """The options of the server, and its counters since the last reset."""

    def __init__(self) -> None:
        self.reset({})

    def reset(self, options: dict[str, str]) -> None:
        """Reset the counters, and start all durations now.

        Options: ``latency`` (seconds before each response), ``every`` (every n-th status call
        gets a 429), ``rate`` (status calls above this many per second get a 429),
        ``retry_after`` (seconds in the ``Retry-After`` of a 429; no such header by default).
        """
        self.start = time.monotonic()
        self.latency = float(options.get("latency", 0))
        self.every = int(options.get("every", 0))
        self.rate = float(options.get("rate", 0))
        self.retry_after = options.get("retry_after", "")
        self.calls: Counter[str] = Counter()
        self.bills: Counter[bytes] = Counter()
        self.out = self.most_out = self.billed_out = self.most_billed_out = 0
        self.polls_this_second, self.second = 0, 0

    def stats(self) -> dict[str, Any]:
        """Return the counters as a JSON object."""
        return {
            **{name: self.calls[name] for name in ("status", "result", "submit", "refused")},
            "billed": self.bills.total(),
            "billed_jobs": len(self.bills),
            "most_in_flight": self.most_out,
            "most_billed_in_flight": self.most_billed_out,
            "connections": self.calls["connection"],
            "start": self.start,
            "now": time.monotonic(),
            "cpu": time.process_time(),
        }

    def is_done(self, request_id: bytes) -> bool:
        """Whether the job is done."""
        when, _, _ = request_id.partition(b"-")
        return when != b"never" and time.monotonic() - self.start >= int(when) / 1000

    def refuses(self) -> bool:
        """Whether this status call gets a 429."""
        if self.every and self.calls["status"] % self.every == 0:
            return True
        if not self.rate:
            return False
        second = int(time.monotonic())
        if second != self.second:
            self.second, self.polls_this_second = second, 0
        self.polls_this_second += 1
        return self.polls_this_second > self.rate


def response(status: HTTPStatus, content: object, extra: str = "") -> bytes:
    """Return a complete response."""
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"{extra}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._loop = asyncio.get_running_loop()
        self._unread = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport that responses are written to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._books.calls["connection"] += 1

    def data_received(self, data: bytes) -> None:
        """Serve every complete request."""
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:end]
            whole = end + 4 + _body_length(head)
            if len(self._unread) < whole:
                return
            self._unread = self._unread[whole:]
            self._serve(head)

    def _serve(self, head: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        path, _, query = target.partition(b"?")
        if path.startswith(b"/_"):
            self._control(path, query)
            return
        books = self._books
        books.out += 1
        books.most_out = max(books.most_out, books.out)
        billed = method == b"GET" and not path.endswith(b"/status")
        if billed:
            books.billed_out += 1
            books.most_billed_out = max(books.most_billed_out, books.billed_out)
        reply = self._reply(method, path, logs=bool(query))
        close = b"connection: close" in head.lower()
        # Deferred, so that requests that arrive together are in flight together.
        if books.latency:
            self._loop.call_later(books.latency, self._finish, reply, billed, close)
        else:
            self._loop.call_soon(self._finish, reply, billed, close)

    def _finish(self, reply: bytes, billed: bool, close: bool) -> None:  # noqa: FBT001 - call_soon takes no keyword arguments
        self._books.out -= 1
        self._books.billed_out -= billed
        self._transport.write(reply)
        if close:
            self._transport.close()

    def _control(self, path: bytes, query: bytes) -> None:
        if path == b"/_reset":
            self._books.reset(dict(parse_qsl(query.decode())))
        self._transport.write(response(HTTPStatus.OK, self._books.stats()))

    def _reply(self, method: bytes, path: bytes, *, logs: bool) -> bytes:
        parts = path.split(b"/")
        if len(parts) == 4 and method == b"POST":
            return self._submit(parts[3].decode())
        if len(parts) == 7 and parts[6] == b"status":
            return self._status(parts[5], logs=logs)
        if len(parts) == 6:
            return self._result(parts[3].decode(), parts[5])
        return response(
            HTTPStatus.NOT_FOUND, {"error": {"message": "no such path", "type": "not_found"}}
        )

    def _submit(self, model: str) -> bytes:
        self._books.calls["submit"] += 1
        name = f"never-{self._books.calls['submit']}"
        url = f"/v1/queue/{model}/requests/{name}"
        content = {"request_id": name, "status": "IN_QUEUE"}
        return response(
            HTTPStatus.ACCEPTED, {**content, "status_url": f"{url}/status", "response_url": url}
        )

    def _status(self, request_id: bytes, *, logs: bool) -> bytes:
        books = self._books
        books.calls["status"] += 1
        if (books.every or books.rate) and books.refuses():
            books.calls["refused"] += 1
            extra = f"retry-after: {books.retry_after}\r\n" if books.retry_after else ""
            error = {"message": "slow down", "type": "rate_limited"}
            return response(HTTPStatus.TOO_MANY_REQUESTS, {"error": error}, extra)
        word = b"COMPLETED" if books.is_done(request_id) else b"IN_PROGRESS"
        more = b', "logs": null' if logs else b""  # fal-client needs them
        body = b'{"request_id": "%b", "status": "%b"%b}' % (request_id, word, more)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
        return b"%b%d\r\n\r\n%b" % (head, len(body), body)

    def _result(self, model: str, request_id: bytes) -> bytes:
        self._books.calls["result"] += 1
        content: dict[str, Any] = {"request_id": request_id.decode(), "model": model}
        if not self._books.is_done(request_id):
            return response(HTTPStatus.OK, {**content, "status": "IN_PROGRESS"})
        self._books.bills[request_id] += 1
        url = f"/v1/queue/{model}/requests/c-{request_id.decode()}/content/0"
        more = {"status": "COMPLETED", "data": [{"url": url}], "usage": _USAGE}
        return response(HTTPStatus.OK, {**content, **more})


def _body_length(head: bytes) -> int:
    if head.startswith(b"GET"):
        return 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def serve(lifetime: float) -> None:
    """Print the port, then serve until standard input is closed or the time is up."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.call_later(lifetime, over.set)

    def input_is_readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            over.set()  # the parent process has exited

    loop.add_reader(sys.stdin.fileno(), input_is_readable)
    books = Books()
    server = await loop.create_server(
        lambda: Connection(books), "127.0.0.1", 0, backlog=4096, reuse_address=True
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    server.close()


def main() -> None:
    """Run the server from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lifetime", type=float, default=900.0)
    asyncio.run(serve(parser.parse_args().lifetime))


if __name__ == "__main__":
    main()

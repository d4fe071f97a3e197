"""A minimal queue server in its own process, so that the server does not limit the clients.

An `asyncio.Protocol` implements just the HTTP/1.1 that the contenders need. A request id says
when its job is done: ``<milliseconds after the last reset>-<anything>``, or
``never-<anything>``. A submitted job takes as many milliseconds as its prompt says, and is
never done if the prompt is not a number. The server listens on 127.0.0.1 only. It exits when
its standard input is closed, as happens when its parent process exits, or after ``lifetime``
seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from benchmarks import status_bodies
from benchmarks._local import end_of_parent
from benchmarks.books import Books

_USAGE = {"video_seconds": 8, "video_resolution": "720p", "video_has_audio": True}


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
            body = self._unread[end + 4 : whole]
            self._unread = self._unread[whole:]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        path, _, query = target.partition(b"?")
        if path.startswith(b"/_"):
            self._control(path, query)
            return
        books = self._books
        books.out += 1
        books.most_out = max(books.most_out, books.out)
        billed = method == b"GET" and path.count(b"/") == 5
        if billed:
            books.billed_out += 1
            books.most_billed_out = max(books.most_billed_out, books.billed_out)
        reply = self._reply(method, path, body, logs=bool(query))
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
        books = self._books
        found = {b"/_jobs": books.jobs, b"/_bills": books.bills_of_jobs}.get(path, books.stats)
        self._transport.write(response(HTTPStatus.OK, found()))

    def _reply(self, method: bytes, path: bytes, body: bytes, *, logs: bool) -> bytes:
        parts = path.split(b"/")
        if len(parts) == 4 and method == b"POST":
            return self._submit(parts[3].decode(), json.loads(body)["prompt"])
        if len(parts) == 7 and parts[6] == b"status":
            return self._status(parts[5], b"logs" if logs else b"queue")
        if len(parts) == 4 and parts[2] in status_bodies.FOREIGN:
            return self._status(parts[3], parts[2])
        if len(parts) == 6:
            return self._result(parts[3].decode(), parts[5])
        return response(
            HTTPStatus.NOT_FOUND, {"error": {"message": "no such path", "type": "not_found"}}
        )

    def _submit(self, model: str, prompt: str) -> bytes:
        self._books.calls["submit"] += 1
        name = self._books.new_id(prompt)
        url = f"/v1/queue/{model}/requests/{name}"
        content = {"request_id": name, "status": "IN_QUEUE"}
        return response(
            HTTPStatus.ACCEPTED, {**content, "status_url": f"{url}/status", "response_url": url}
        )

    def _status(self, request_id: bytes, shape: bytes) -> bytes:
        books = self._books
        books.calls["status"] += 1
        if (books.every or books.rate) and books.refuses():
            books.calls["refused"] += 1
            extra = f"retry-after: {books.retry_after}\r\n" if books.retry_after else ""
            error = {"message": "slow down", "type": "rate_limited"}
            return response(HTTPStatus.TOO_MANY_REQUESTS, {"error": error}, extra)
        body = status_bodies.SHAPES[shape](request_id, books.poll(request_id))
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
    over = end_of_parent(lifetime)
    books = Books()
    server = await asyncio.get_running_loop().create_server(
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

"""Billed calls over HTTP/2, which the httpx client of a caller may use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import attrs
import h2.config
import h2.connection
import h2.errors
import h2.events
import httpx
import pytest
from raw_server import listening
from support import on_socket

from modelmax_async import Result, ResultUncertainError

pytestmark = pytest.mark.anyio
Respond = Callable[[h2.connection.H2Connection, int], None]
RESULT = {
    "status": "COMPLETED",
    "model": "veo-3",
    "data": [{"url": "/v1/queue/veo-3/requests/abc/content/0"}],
}


@attrs.define
class Server:
    """Says COMPLETED for each job; ``respond`` serves to each fetch of a result."""

    respond: Respond
    url: str = ""
    asked: list[str] = attrs.field(factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        with suppress(ConnectionError):  # the client may close the connection
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self._serve(connection, event)
                writer.write(connection.data_to_send())
        writer.close()

    def _serve(
        self, connection: h2.connection.H2Connection, event: h2.events.RequestReceived
    ) -> None:
        assert event.stream_id is not None
        path = dict(event.headers or [])[b":path"].decode()
        self.asked.append(path.rsplit("/", 1)[-1])
        if path.endswith("/status"):
            reply(connection, event.stream_id, {"status": "COMPLETED"})
        else:
            self.respond(connection, event.stream_id)


def reply(connection: h2.connection.H2Connection, stream: int, body: object = RESULT) -> None:
    """Send a 200 with JSON."""
    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
    connection.send_data(stream, json.dumps(body).encode(), end_stream=True)


def go_away_unseen(connection: h2.connection.H2Connection, _: int) -> None:
    """Say that nothing was processed: HTTP lets a client send the request again."""
    connection.close_connection(last_stream_id=0)


def go_away_seen(connection: h2.connection.H2Connection, stream: int) -> None:
    connection.close_connection(last_stream_id=stream)


def refuse(connection: h2.connection.H2Connection, stream: int) -> None:
    connection.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server that serves each result."""
    served = Server(reply)
    async with listening(served.handle) as served.url:
        yield served


async def test_each_result_is_fetched_once(server: Server) -> None:
    ids = [f"job-{number}" for number in range(20)]

    async with (
        httpx.AsyncClient(http1=False, http2=True) as inner,
        on_socket(server.url, http_client=inner) as client,
    ):
        results = await client.gather_results(ids)
        again = await client.gather_results(ids)

    assert all(isinstance(result, Result) for result in results)
    assert results == again
    assert sorted(ids) == sorted(path for path in server.asked if path != "status")


@pytest.mark.parametrize("respond", [go_away_unseen, go_away_seen, refuse])
async def test_fetch_that_the_server_refuses_is_not_sent_again(
    server: Server, respond: Respond
) -> None:
    server.respond = respond

    async with (
        httpx.AsyncClient(http1=False, http2=True) as inner,
        on_socket(server.url, http_client=inner) as client,
    ):
        for _ in range(2):
            with pytest.raises(ResultUncertainError):
                await client.wait_for("abc")

    assert ["abc"] == [path for path in server.asked if path != "status"]

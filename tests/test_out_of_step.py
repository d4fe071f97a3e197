"""A kept connection whose responses are out of step with its requests fails no job."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ledgers import states
from raw_server import answer, listening
from support import on_socket

from modelmax_async import MemoryLedger

pytestmark = pytest.mark.anyio
TAKEN = {"status": "COMPLETED", "data": [{"url": "/v"}], "model": "veo-3"}
OTHERS: dict[str, dict[str, Any]] = {
    "failed": {"status": "FAILED", "error": "no"},
    "completed": TAKEN,
    "failed without an id": {"status": "FAILED", "error": "no", "request_id": None},
}


class Behind:
    """Gives the first requests one response too many each, about another job."""

    def __init__(self, surplus: dict[str, Any]) -> None:
        self.surplus = surplus
        self.results: list[str] = []
        self.polls: dict[str, int] = {}
        self.misled = 0

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                writer.write(self.respond(head.split()[1]))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def respond(self, path: str) -> bytes:
        name = path.split("/requests/")[1].split("/", maxsplit=1)[0]
        if not path.endswith("/status"):
            self.results.append(name)
            return _response(name, **TAKEN)
        self.polls[name] = self.polls.get(name, 0) + 1
        word = "COMPLETED" if self.polls[name] > 3 else "IN_PROGRESS"
        sent = _response(name, status=word)
        if self.misled < 4:
            self.misled += 1
            sent += _response("another", **self.surplus)
        return sent


def _response(name: str, **fields: Any) -> bytes:
    said = {"request_id": name, **fields}
    body = json.dumps({k: v for k, v in said.items() if v is not None}).encode()
    return answer(body).replace(b"connection: close\r\n", b"")


@pytest.mark.parametrize("surplus", OTHERS.values(), ids=OTHERS.keys())
async def test_response_about_another_job_ends_no_wait(surplus: dict[str, Any]) -> None:
    server = Behind(surplus)
    ledger = MemoryLedger()

    async with (
        listening(server) as url,
        on_socket(url, ledger=ledger, max_in_flight=1) as client,
    ):
        results = await client.gather_results(["reef", "wreck"], timeout=15)

    assert ["reef", "wreck"] == [result.request_id for result in results]
    assert ["reef", "wreck"] == sorted(server.results)
    assert ["stored", "stored"] == states(ledger)
    assert 4 == server.misled

"""What several test modules share: clients set up for tests, and jobs in a given state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import canary
import httpx
import pytest
from ledgers import Seen

from modelmax_async import (
    AsyncQueueClient,
    Forecast,
    Job,
    Outcome,
    PollPolicy,
    Result,
    ResultUncertainError,
    RetryPolicy,
    Video,
    WaitState,
)
from modelmax_async._api.paths import make_job
from modelmax_async._api_key import ApiKey
from modelmax_async._http import ClientOrTransport, HTTPClient
from modelmax_async._settings import read_settings
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.emulator._inprocess import InProcessTransport
from modelmax_async.ledger import Claim, Key, Ledger, Move
from modelmax_async.testing import VirtualTimeLoop

KEY = canary.KEY
ORIGIN = "http://127.0.0.1:80"
FAST = PollPolicy(initial=0.02, maximum=0.05)
VIRTUAL = ("asyncio", {"loop_factory": VirtualTimeLoop})
STEADY = PollPolicy(initial=1.0, factor=1.5, maximum=10.0, jitter=0.0)
IMPATIENT = RetryPolicy(initial=0.02, maximum=0.05)

in_virtual_time = pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["virtual"])


@asynccontextmanager
async def in_process(emulator: Emulator, **options: Any) -> AsyncIterator[AsyncQueueClient]:
    """A client of the emulator without a socket, for virtual time."""
    here: dict[str, Any] = {"model": "veo-3", "base_url": "http://127.0.0.1", "api_key": KEY}
    async with (
        emulator.transport() as transport,
        AsyncQueueClient(**({"http_client": transport} | here | options)) as client,
    ):
        yield client


@asynccontextmanager
async def two_clients(
    emulator: Emulator, ledger: Ledger
) -> AsyncIterator[tuple[AsyncQueueClient, AsyncQueueClient]]:
    """Two clients of the emulator that share a ledger, as two processes do."""
    async with (
        in_process(emulator, ledger=ledger) as one,
        in_process(emulator, ledger=ledger) as other,
    ):
        yield one, other


def on_socket(url: str, **options: Any) -> AsyncQueueClient:
    """A client of an emulator on a real socket, with short intervals."""
    defaults: dict[str, Any] = {
        "model": "veo-3",
        "api_key": KEY,
        "poll": FAST,
        "retry": IMPATIENT,
    }
    return AsyncQueueClient(base_url=url, **(defaults | options))


def transport_to(
    url: str, http_client: ClientOrTransport | None = None, **options: Any
) -> HTTPClient:
    """The HTTP part of a client alone."""
    settings = read_settings(
        api_key=ApiKey(KEY),
        base_url=url,
        model=None,
        on_uncertain="raise",
        max_in_flight=options.pop("size", 4),
        allow_insecure=False,
        environ={},
    )
    return HTTPClient(settings, options.pop("timeout", 1.0), http_client)


def waiting(forecast: Forecast, attempts: int = 0) -> WaitState:
    """The state of a wait before the first poll of an id from elsewhere."""
    return WaitState(
        model="veo-3",
        attempts=attempts,
        waited=0.0,
        age=None,
        status=None,
        status_age=0.0,
        forecast=forecast,
    )


class SlowToConnect(InProcessTransport):
    """Takes its time before byte 0, as a TCP or TLS handshake does."""

    emits_httpcore_trace_events = True

    def __init__(self, emulator: Emulator, seconds: float) -> None:
        super().__init__(emulator.app)
        self.seconds = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.seconds)
        return await super().handle_async_request(request)


class Moves(Seen):
    """`Seen`, whose kinds of moves are called names."""

    @property
    def names(self) -> list[str]:
        return self.kinds


def key_and_job(request_id: str) -> tuple[Key, Job]:
    """Return the ledger's key of a job in process, and the job."""
    return Key(ORIGIN, request_id), make_job("veo-3", request_id)


async def claimed_by_another(ledger: Ledger, request_id: str, *moves: Move) -> None:
    """Record that a client that is gone claimed a job (attempt ``a1``), and then ``moves``."""
    key, job = key_and_job(request_id)
    for move in (Claim(job, "gone", "a1", 10.0), *moves):
        await ledger.apply(key, move)


async def left_uncertain(emulator: Emulator, ledger: Ledger) -> str:
    """Add a job whose billed call was processed, and whose response never arrived."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), request_id=request_id)
    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
    return request_id


def pay(client: AsyncQueueClient, request_id: str) -> asyncio.Task[Result]:
    """Start a task that asks for a result, and accepts a second charge."""
    return asyncio.create_task(client.result(request_id, accept_second_charge=True))


def paid_body(request_id: str) -> bytes:
    """Return the body of a paid result."""
    return (
        b'{"request_id": "%s", "status": "COMPLETED", "data": [{"url": "/v"}]}'
        % request_id.encode()
    )


def says_failed(request_id: str) -> Fault:
    """Return the fault of a result call whose response says FAILED."""
    body = b'{"request_id": "%s", "status": "FAILED"}' % request_id.encode()
    return Fault.raw(200, body)


def late(fault: Fault, seconds: float) -> Fault:
    """Return the same fault, that many seconds later."""
    return attrs.evolve(fault, change=lambda a: attrs.evolve(fault.change(a), hang=seconds))


def result_of(*urls: str, request_id: str = "reef") -> Result:
    """Return a result whose videos are at these addresses."""
    return Result(request_id, "veo-3", tuple(Video(url, i) for i, url in enumerate(urls)))


def names(directory: Path) -> list[str]:
    """Return the names of the files in a directory, sorted."""
    return sorted(entry.name for entry in directory.iterdir())


async def closed_after(client: AsyncQueueClient) -> float:
    """Close a client; return how many seconds that took."""
    began = asyncio.get_running_loop().time()
    await client.aclose()
    return asyncio.get_running_loop().time() - began


async def until(condition: Callable[[], object], *, within: float = 5) -> None:
    """Wait for a change on the other side of a socket, a thread or a process."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


def id_of(outcome: Outcome) -> str:
    """Return the request id of an outcome that has a job."""
    assert outcome.job is not None

    return outcome.job.request_id

"""An answer that is whole in memory is kept, whatever then becomes of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx
from ledgers import Seen
from support import in_virtual_time, on_socket

from modelmax_async import AsyncQueueClient, ResultUncertainError, RetryPolicy
from modelmax_async.emulator import Emulator
from modelmax_async.events import Event, ResultUncertain, UnarmedAnswer

pytestmark = pytest.mark.anyio


class SlowToClose(httpx.AsyncBaseTransport):
    """The emulator behind a connection whose end takes long."""

    emits_httpcore_trace_events = True

    def __init__(self, emulator: Emulator, seconds: float) -> None:
        self.inner = emulator.transport()
        self.seconds = seconds
        self.closing = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        if not request.url.path.endswith("/status"):
            response.stream = _Slow(response.stream, self)
        return response


class _Slow(httpx.AsyncByteStream):
    def __init__(self, inner: Any, owner: SlowToClose) -> None:
        self.inner = inner
        self.owner = owner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.inner:
            yield chunk

    async def aclose(self) -> None:
        self.owner.closing.set()
        await asyncio.sleep(self.owner.seconds)
        await self.inner.aclose()


@in_virtual_time
class TestConnectionThatIsSlowToClose:
    @pytest.mark.parametrize("seconds", [4.0, 1000.0])
    async def test_answer_does_not_wait_for_it(
        self, emulator: Emulator, seconds: float
    ) -> None:
        transport = SlowToClose(emulator, seconds)
        request_id = emulator.add_job()

        async with AsyncQueueClient(
            api_key="sk-emulator",
            base_url="http://127.0.0.1",
            model="veo-3",
            http_client=transport,
            timeout=0.2,  # the whole call may take 3 seconds
        ) as client:
            async with asyncio.timeout(10):
                result = await client.wait_for(request_id)

        assert request_id == result.request_id
        assert {request_id: 1} == emulator.billed

    async def test_client_that_closes_meanwhile_stores_the_answer(
        self, emulator: Emulator
    ) -> None:
        transport = SlowToClose(emulator, 1000.0)
        request_id = emulator.add_job()
        ledger = Seen()
        seen: list[Event] = []

        client = AsyncQueueClient(
            api_key="sk-emulator",
            base_url="http://127.0.0.1",
            model="veo-3",
            http_client=transport,
            timeout=1,
            ledger=ledger,
            hooks=[seen.append],
        )
        waiting = asyncio.create_task(client.wait_for(request_id))
        await transport.closing.wait()
        await client.aclose()
        await asyncio.gather(waiting, return_exceptions=True)

        (entry,) = ledger._entries.values()
        assert "stored" == entry.state
        assert [] == [event for event in seen if isinstance(event, ResultUncertain)]


class TestMockThatComesLate:
    """The client has seen trace events; then a tool patches the HTTP library."""

    async def test_answer_that_was_not_armed_is_kept_and_reported(
        self, emulator: Emulator, url: str
    ) -> None:
        request_id = emulator.add_job()
        ledger = Seen()
        seen: list[Event] = []
        body = {
            "request_id": request_id,
            "status": "COMPLETED",
            "data": [{"url": "/v1/x"}],
        }

        async with on_socket(url, ledger=ledger, hooks=[seen.append]) as client:
            await client.status(request_id)
            with respx.mock:
                respx.get(path__regex=".*").respond(200, json=body)
                result = await client.result(request_id)

        assert "/v1/x" == result.videos[0].url
        assert ["Claim", "Store"] == ledger.kinds
        assert [UnarmedAnswer] == [type(e) for e in seen if isinstance(e, UnarmedAnswer)]

    async def test_break_that_was_not_armed_is_uncertain(
        self, emulator: Emulator, url: str
    ) -> None:
        request_id = emulator.add_job()

        async with on_socket(url, retry=RetryPolicy(initial=0.01)) as client:
            await client.status(request_id)
            with respx.mock:
                route = respx.get(path__regex=".*").mock(side_effect=httpx.ReadError)
                with pytest.raises(ResultUncertainError):
                    await client.result(request_id)
            (entry,) = await client.unresolved()

        assert 1 == route.call_count
        assert request_id == entry.job.request_id

"""The client as a whole: event loops, connections, limits, `repr`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable

import httpx
import pytest
from support import KEY, on_socket

from modelmax_async import AsyncQueueClient, ClientStateError, Result, VideoParameters
from modelmax_async._http.connections import Connections
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = pytest.mark.anyio


on_every_loop = pytest.mark.parametrize(
    "anyio_backend",
    [
        ("asyncio", {}),
        ("asyncio", {"use_uvloop": True}),
        ("asyncio", {"debug": True}),
    ],
    ids=["asyncio", "uvloop", "debug"],
)


@on_every_loop
async def test_works_on_every_loop(emulator: Emulator, url: str) -> None:
    emulator.script(JobScript(queue_seconds=0.05, run_seconds=0.05))

    async with on_socket(url) as client:
        job = await client.submit("a reef", parameters=VideoParameters(resolution="1080p"))
        result = await client.wait_for(job)

    assert job.request_id == result.request_id
    assert {job.request_id: 1} == emulator.billed


@on_every_loop
async def test_jobs_that_are_due_at_once_are_polled_on_every_loop(
    emulator: Emulator, url: str
) -> None:
    """uvloop returns another kind of handle for a timer that is due already."""
    ids = [emulator.add_job() for _ in range(3)]
    async with on_socket(url) as client:
        results = await asyncio.gather(*(client.wait_for(one) for one in ids))

    assert ids == [result.request_id for result in results]


async def test_client_without_async_with_works_the_same(emulator: Emulator, url: str) -> None:
    client = on_socket(url)

    result = await client.wait_for(emulator.add_job())
    await client.aclose()
    await client.aclose()
    with pytest.raises(ClientStateError, match="closed"):
        await client.wait_for(result.request_id)

    assert isinstance(result, Result)
    assert "closed" in repr(client)


def test_use_in_a_second_event_loop_is_refused_at_once() -> None:
    emulator = Emulator()
    client = AsyncQueueClient(
        api_key=KEY,
        base_url="http://127.0.0.1",
        model="veo-3",
        http_client=httpx.AsyncClient(transport=emulator.transport()),
    )

    async def run(call: Callable[..., Awaitable[object]], *arguments: object) -> None:
        await call(*arguments)

    asyncio.run(run(client.wait_for, emulator.add_job()))
    for call, *arguments in (
        (client.wait_for, "x"),
        (client.submit, "a reef"),
        (client.pending,),
        (client.gather_results, ["x"]),
        (client.aclose,),
    ):
        with pytest.raises(ClientStateError, match="another event loop"):
            asyncio.run(run(call, *arguments))


async def test_base_url_with_a_path_is_put_before_each_path_once() -> None:
    emulator = Emulator(base_path="/gateway")

    async with emulator.serve() as url, on_socket(url) as client:
        job = await client.submit("a reef")
        result = await client.wait_for(job)
        same = await client.wait_for(emulator.add_job())

    assert url.endswith("/gateway")
    assert job.request_id == result.request_id != same.request_id


async def test_connection_of_a_slot_is_kept_for_the_next_poll(
    emulator: Emulator, url: str
) -> None:
    async with on_socket(url, max_in_flight=2) as client:
        for _ in range(5):
            await client.status(emulator.add_job())
        shown = repr(client._engine.http)

    assert "1 idle" in shown


async def test_in_flight_bound_holds_over_everything(emulator: Emulator, url: str) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=0.2)) for _ in range(60)]

    async with on_socket(url, max_in_flight=5) as client:
        await asyncio.gather(
            client.gather_results(ids),
            *(client.status(request_id) for request_id in ids),
            *(client.submit("a reef") for _ in range(20)),
        )

    assert emulator.max_in_flight_seen <= 5
    assert 60 == emulator.billed_total


async def test_timeout_may_name_its_phases(emulator: Emulator, url: str) -> None:
    emulator.fault("status", Fault.hang(15))

    async with on_socket(url, timeout=httpx.Timeout(10, read=0.1)) as client:
        result = await client.wait_for(emulator.add_job())

    assert isinstance(result, Result)


async def test_timeout_may_be_none(emulator: Emulator, url: str) -> None:
    async with on_socket(url, timeout=None) as client:
        result = await client.wait_for(emulator.add_job())

    assert isinstance(result, Result)


def test_repr_of_a_client_that_was_not_set_up_says_so() -> None:
    client = AsyncQueueClient.__new__(AsyncQueueClient)

    assert "<AsyncQueueClient not set up>" == repr(client)


def test_secure_client_is_made_without_io() -> None:
    client = AsyncQueueClient(api_key=KEY)

    assert "https://api.modelmax.io:443" in repr(client)


async def test_no_socket_is_left_open_and_no_warning_given(
    url: str, emulator: Emulator
) -> None:
    """A program runs in development mode, with warnings as errors."""
    request_ids = [emulator.add_job() for _ in range(3)]
    program = f"""
        import asyncio, gc
        from modelmax_async import AsyncQueueClient, SQLiteLedger

        async def main():
            asyncio.get_running_loop().slow_callback_duration = 60  # the machine may be busy
            client = AsyncQueueClient(api_key="{KEY}", base_url="{url}", model="veo-3")
            results = await client.gather_results({request_ids!r})
            await client.aclose()
            print(len(results))

        asyncio.run(main())
        gc.collect()
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert b"3\n" == out
    assert b"" == err


async def test_billed_call_has_a_fresh_connection_of_its_own(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    seen: list[str] = []

    async with on_socket(url, max_in_flight=1) as client:
        await client.status(request_id)
        connections = client._engine.http._routes.client._transport
        assert isinstance(connections, Connections)
        opened = connections._opener

        def watch_open(limits: httpx.Limits) -> httpx.AsyncBaseTransport:
            seen.append(f"keepalive {limits.max_keepalive_connections}")
            return opened(limits)

        connections._opener = watch_open
        await client.result(request_id)

    assert ["keepalive 0"] == seen


async def test_client_that_was_never_used_closes(url: str) -> None:
    client = on_socket(url)

    await client.aclose()

    assert "closed" in repr(client)

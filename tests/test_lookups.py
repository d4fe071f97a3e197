"""Look-ups of host names: in threads of the client's own, bounded in number and in time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs
import httpx
import pytest
from resolver import resolving
from support import until

from modelmax_async._http.lookups import Lookups

pytestmark = pytest.mark.anyio

A, B = "192.0.2.1", "192.0.2.2"


@attrs.define
class Slow:
    """A resolver that answers when it is told to."""

    go: threading.Event = attrs.field(factory=threading.Event)
    now: int = 0
    most: int = 0

    def __call__(self) -> Sequence[str]:
        self.now += 1
        self.most = max(self.most, self.now)
        self.go.wait(10)
        self.now -= 1
        return [A]


@pytest.fixture
def slow() -> Iterator[Slow]:
    found = Slow()
    yield found
    found.go.set()


async def test_address_needs_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, {})
    lookups = Lookups(1, 5.0)

    found = [await lookups.addresses(host, trusted=False) for host in ("127.0.0.1", "::1")]

    assert [["127.0.0.1"], ["::1"]] == found
    assert [] == asked


async def test_families_take_turns_in_the_order_of_the_resolver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving(monkeypatch, {"h": ["2001:db8::1", "2001:db8::2", "2001:db8::2", A, B]})

    found = await Lookups(1, 5.0).addresses("h", trusted=True)

    assert ["2001:db8::1", A, "2001:db8::2", B] == found


async def test_look_ups_of_one_host_at_once_are_one(
    monkeypatch: pytest.MonkeyPatch, slow: Slow
) -> None:
    asked = resolving(monkeypatch, {"h": slow})
    lookups = Lookups(2, 5.0)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lookups.addresses("h", trusted=False)) for _ in range(20)]
        await until(lambda: slow.now)
        tasks[0].cancel()  # and the others still get their answer
        slow.go.set()

    assert ["h"] == asked
    assert [[A]] * 19 == [task.result() for task in tasks[1:]]


async def test_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, {"h": [A]})
    lookups = Lookups(2, 5.0)

    for _ in range(3):
        await lookups.addresses("h", trusted=True)

    assert ["h"] * 3 == asked


async def test_names_of_other_hosts_are_looked_up_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, slow: Slow
) -> None:
    names = [f"h{i}" for i in range(12)]
    asked = resolving(monkeypatch, dict.fromkeys([*names, "api"], slow))
    lookups = Lookups(3, 5.0)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lookups.addresses(name, trusted=False)) for name in names]
        await until(lambda: slow.now == 3)
        ours = group.create_task(lookups.addresses("api", trusted=True))
        await until(lambda: slow.now == 4)  # that of the configuration waits for none of these
        slow.go.set()

    assert 4 == slow.most
    assert [A] == ours.result()
    assert [[A]] * 12 == [task.result() for task in tasks]
    assert sorted([*names, "api"]) == sorted(asked)


async def test_look_up_that_takes_too_long_is_left_alone_and_counts_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, slow: Slow
) -> None:
    asked = resolving(monkeypatch, {"slow": slow, "fast": [B]})
    lookups = Lookups(1, 0.2)

    for host in ("slow", "fast", "slow"):
        with pytest.raises(httpx.ConnectTimeout, match=f"of {host} took more than 0.2 sec"):
            await lookups.addresses(host, trusted=False)
    during = list(asked)
    slow.go.set()
    await until(lambda: not lookups._others)
    after = await lookups.addresses("fast", trusted=False)

    assert ["slow"] == during
    assert [B] == after
    assert ["slow", "fast"] == asked


async def test_host_without_an_address_is_a_connection_that_failed() -> None:
    with pytest.raises(httpx.ConnectError):
        await Lookups(1, 5.0).addresses("nowhere.invalid", trusted=True)


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
async def test_malformed_host_name_is_a_connection_that_failed(host: str) -> None:
    """The host of a proxy is not looked at before."""
    with pytest.raises(httpx.ConnectError, match="is not a host name"):
        await Lookups(1, 5.0).addresses(host, trusted=True)


async def test_answer_without_addresses_is_a_connection_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving(monkeypatch, {"h": []})

    with pytest.raises(httpx.ConnectError, match="h has no address"):
        await Lookups(1, 5.0).addresses("h", trusted=True)


async def test_resolver_that_breaks_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Sequence[str]:
        raise RuntimeError("broken")

    resolving(monkeypatch, {"h": broken})

    with pytest.raises(RuntimeError, match="broken"):
        await Lookups(1, 5.0).addresses("h", trusted=True)


async def test_executor_of_the_application_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {"h": [A]})
    busy = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    waiting = loop.run_in_executor(None, busy.wait, 5)

    found = await Lookups(1, 5.0).addresses("h", trusted=True)
    busy.set()
    await waiting

    assert [A] == found


def test_look_up_that_hangs_does_not_hold_up_the_end_of_the_program() -> None:
    program = """
import asyncio, socket, time
from modelmax_async._http.lookups import Lookups
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
async def main():
    try:
        await Lookups(1, 0.05).addresses("h", trusted=True)
    except Exception as exc:
        print(exc)
asyncio.run(main())
"""
    done = subprocess.run(  # noqa: S603 - the program is the lines above
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=15
    )

    assert "the look-up of h took more than 0.05 seconds\n" == done.stdout
    assert "" == done.stderr

"""A callback that would have to be awaited is refused before any request."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from support import in_process, in_virtual_time, result_of

from modelmax_async import AsyncQueueClient, StatusReport
from modelmax_async.emulator import Emulator

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def coroutine_function(*_: object) -> None:
    """Stand for a callback that would have to be awaited."""


async def generator_function(*_: object) -> AsyncIterator[int]:
    """Stand for a callback whose body would never run."""
    yield 1


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    async def count(self, *_: object) -> None:
        """Stand for a bound method that would have to be awaited."""

    def __call__(self, *_: object) -> None:
        self.calls += 1


class AsyncCallable:
    async def __call__(self, *_: object) -> None:
        """Stand for an object that would have to be awaited."""


Call = Callable[[AsyncQueueClient, Any], Any]
CALLS: dict[str, Call] = {
    "on_status": lambda client, given: client.wait_for("reef", on_status=given),
    "generate on_status": lambda client, given: client.generate("a reef", on_status=given),
    "on_outcome": lambda client, given: client.gather_results(["reef"], on_outcome=given),
    "on_progress": lambda client, given: client.download(
        result_of("/v"), Path("unused"), on_progress=given
    ),
}
MISTAKES: list[tuple[Any, str]] = [
    (coroutine_function, "must be a plain function, got a coroutine function (coroutine_func"),
    (generator_function, "must be a plain function, got a coroutine function (generator_func"),
    (Counter().count, "must be a plain function, got a coroutine function (Counter.count), "),
    (AsyncCallable(), "must be a plain function, got a coroutine function (AsyncCallable), "),
    (functools.partial(functools.partial(coroutine_function, 1), 2), "(coroutine_function), "),
    (functools.partial(AsyncCallable(), 1), "(AsyncCallable), which would never be awaited"),
    (
        AsyncMock(),
        "(AsyncMock), which would never be awaited: start a task in a plain function",
    ),
    ("print", "must be a function, got str"),
    (5, "must be a function, got 5"),
    (True, "must be a function, got True"),
]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize(("given", "message"), MISTAKES)
async def test_callback_that_cannot_be_called_is_refused(
    emulator: Emulator, call: Call, given: Any, message: str
) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="must be a") as caught:
            await call(client, given)

    assert message in str(caught.value)
    assert [] == emulator.requests
    assert not Path("unused").exists()


async def test_coroutine_in_place_of_a_callback_is_closed(emulator: Emulator) -> None:
    given: Any = coroutine_function()

    async with in_process(emulator) as client:
        with pytest.raises(
            ValueError, match=r"got the coroutine of coroutine_function\(\): await"
        ):
            await client.wait_for("reef", on_status=given)

    assert given.cr_frame is None, "or a warning that it was never awaited would follow"
    assert [] == emulator.requests


@pytest.mark.parametrize("given", [Counter(), MagicMock(), functools.partial(print, end="")])
async def test_plain_callables_are_called(emulator: Emulator, given: Any) -> None:
    async with in_process(emulator, hooks=[given]) as client:
        result = await client.wait_for(emulator.add_job(), on_status=given)

    assert {result.request_id: 1} == emulator.billed
    assert getattr(given, "calls", 1)


async def test_coroutine_that_a_callback_returns_is_reported(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    def disguised(report: StatusReport) -> object:
        return coroutine_function(report)

    async with in_process(emulator) as client:
        with caplog.at_level(logging.ERROR):
            await client.wait_for(emulator.add_job(), on_status=disguised)

    assert "a callback failed on StatusReport" in caplog.text
    assert "the callback returned a coroutine, which was not awaited" in caplog.text
    assert 1 == emulator.billed_total

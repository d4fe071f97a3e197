"""A method's argument of the wrong kind is refused before any request, with what to pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledgers import Seen
from support import in_process, in_virtual_time, result_of

from modelmax_async import (
    AsyncQueueClient,
    Failed,
    Job,
    StatusReport,
    Succeeded,
    Video,
    VideoRequest,
)
from modelmax_async.emulator import Emulator

pytestmark = [pytest.mark.anyio, in_virtual_time]
JOB = Job("veo-3", "reef")
RESULT = result_of("/v")
A_RESULT = "result must be a Result, got "
A_VIDEO = "video must be a Video, got "
REQUESTS = "requests must be an iterable or async iterable of prompts or VideoRequest, got "
A_PATH = "directory must be a path (a string or a pathlib.Path), got "
Call = Callable[[AsyncQueueClient, Any], Any]


async def _ended(made: Any) -> Any:
    """Await what a method returned, whatever kind it is of."""
    if hasattr(made, "__anext__"):
        return [each async for each in made]
    return await made


REST: list[tuple[str, Call, Any, str]] = [
    (
        "download",
        lambda client, given: client.download(given, "unused"),
        given,
        f"{A_RESULT}{message}",
    )
    for given, message in (
        ("abc", "str: pass await client.wait_for(request_id)"),
        (JOB, "Job: pass await client.wait_for(job)"),
        (StatusReport("reef", "COMPLETED"), "StatusReport: pass await client.wait_for(job)"),
        (Succeeded(JOB, RESULT), "Succeeded: pass its .result"),
        (Failed(JOB, ValueError()), "Failed"),
        ([RESULT], "list: pass each Result in a call of its own"),
        (RESULT.videos[0], "Video: pass the whole Result, or use stream(video)"),
        (RESULT.to_dict(), "dict: pass Result.from_dict(…) of it"),
        (None, "None"),
    )
]
REST += [
    ("stream", lambda client, given: client.stream(given), given, f"{A_VIDEO}{message}")
    for given, message in (
        (RESULT, "Result: pass one of its .videos"),
        (RESULT.videos, "tuple: pass one of Result.videos"),
        ("/v1/0", "str: pass one of Result.videos"),
        (Video("/v", 0).to_dict(), "dict: pass Video.from_dict(…) of it"),
        (None, "None"),
    )
]
REST += [
    ("directory", call, given, message)
    for call in (
        lambda client, given: client.download(RESULT, given),
        lambda client, given: client.generate_many(["a reef"], directory=given),
    )
    for given, message in (
        (5, f"{A_PATH}5"),
        (b"videos", f"{A_PATH}bytes"),
        ("~/videos", "which is not expanded, got '~/videos': pass Path('~/videos').expanduser"),
        (Path("~"), "which is not expanded, got '~': pass Path('~').expanduser()"),
    )
]
REST += [
    ("requests", lambda client, given: client.generate_many(given), given, message)
    for given, message in (
        ("a reef", f"{REQUESTS}str: pass a list of them"),
        ({"prompt": "a reef"}, f"{REQUESTS}dict: pass a list of them"),
        (VideoRequest("a reef"), f"{REQUESTS}VideoRequest: pass a list of them"),
        (None, f"{REQUESTS}None"),
        (["a reef", {"prompt": "a fox"}], "got dict: pass VideoRequest.from_dict(…) of it"),
        (("a reef", 5), "requests must be prompts or VideoRequest, got 5"),
    )
]
REST += [
    ("prompt", lambda client, given: client.submit(given), given, message)
    for given, message in (
        (["a reef"], "prompt must be a non-empty string, got list: use generate_many for it"),
        (VideoRequest("a"), "a non-empty string, got VideoRequest: use generate_many for it"),
        (None, "prompt must be a non-empty string, got None"),
        ("", "prompt must be a non-empty string"),
    )
]
REST += [
    (
        "consent",
        lambda client, given: client.result("reef", accept_second_charge=given),
        "no",
        "accept_second_charge must be True or False, got 'no'",
    ),
    (
        "age",
        lambda client, given: client.prune(given),
        30,
        "older_than must be a timedelta of at least 0, got 30: pass timedelta(days=30)",
    ),
    (
        "timeout",
        lambda client, given: client.wait_for("reef", timeout=given),
        "60",
        "timeout must be a number of seconds from 0 or None, got '60'",
    ),
    (
        "parameters",
        lambda client, given: client.submit("a reef", parameters=given),
        {"resolution": "4k"},
        "got dict: pass VideoParameters(resolution=…), and undocumented keys as VideoParam",
    ),
]


@pytest.mark.parametrize(("call", "given", "message"), [row[1:] for row in REST])
async def test_mistake_in_an_argument_is_named(
    emulator: Emulator, call: Call, given: Any, message: str
) -> None:
    ledger = Seen()
    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(ValueError, match="must be") as caught:
            await _ended(call(client, given))

    assert message in str(caught.value)
    assert [] == emulator.requests
    assert [] == ledger.applied
    assert not Path("unused").exists()

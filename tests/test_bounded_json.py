"""The structure of a response is bounded, so that none stalls the event loop."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from ledgers import states
from strategies import JOB, wild_json
from support import in_process, in_virtual_time

from modelmax_async import InvalidResponseError, MemoryLedger, Result
from modelmax_async._api.bounded_json import (
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_ESCAPES,
    MAX_STRUCTURE,
    parse,
)
from modelmax_async._api.endpoints import MAX_VIDEOS, is_readable, parse_result
from modelmax_async.emulator import Emulator, Fault

MIB = 1024 * 1024


def paid(field: bytes) -> bytes:
    """Return a paid body with one more field."""
    return (
        b'{"request_id": "req-1", "status": "COMPLETED", "data": [{"url": "/v"}], "x": '
        + field
        + b"}"
    )


@given(wild_json)
def test_what_is_within_the_bounds_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    body = json.dumps(value).encode()

    assert repr(json.loads(body)) == repr(parse(body))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_of_json_is_read(encoding: str) -> None:
    assert {"größe": "🌊"} == parse('{"größe": "🌊"}'.encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * MAX_STRUCTURE + "0]",
        "{" + ",".join(f'"{n}": 0' for n in range(MAX_STRUCTURE)) + "}",
        "[" + "0," * MAX_STRUCTURE + "0]",
        json.dumps({"data": [{"url": ""}] * MAX_STRUCTURE}),
        json.dumps("," * (MAX_STRUCTURE + 1)),
    ],
    ids=["lists", "keys", "numbers", "objects", "string"],
)
def test_more_structure_than_any_real_response_has_is_refused(text: str, encoding: str) -> None:
    with pytest.raises(ValueError, match="more than 10000 brackets, commas and colons"):
        parse(text.encode(encoding))


def test_as_much_structure_as_is_allowed_is_read() -> None:
    assert [0] * MAX_STRUCTURE == parse(b"[" + b"0," * (MAX_STRUCTURE - 1) + b"0]")


def test_escapes_are_bounded() -> None:
    most = b'"' + b"\\n" * MAX_ESCAPES + b'"'

    assert "\n" * MAX_ESCAPES == parse(most)
    with pytest.raises(ValueError, match="more than 500000 backslashes"):
        parse(most[:-1] + b'\\n"')


@pytest.mark.parametrize("sign", ["", "-"])
def test_integer_that_no_float_can_hold_is_infinite(sign: str) -> None:
    longest = sign + "9" * (MAX_DIGITS - len(sign))

    assert int(longest) == parse(longest.encode())
    assert float(f"{sign}inf") == parse(f"{sign}1{'0' * MAX_DIGITS}".encode())


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_bounded(start: str, end: str) -> None:
    def nested(levels: int, inner: str) -> bytes:
        return (start * levels + inner + end * levels).encode()

    inner = start.rstrip('"a:') + end

    parse(nested(MAX_DEPTH, "0"))
    parse(nested(MAX_DEPTH - 1, inner))
    for levels in (MAX_DEPTH, 500, 100_000):
        with pytest.raises(ValueError, match=r"nested more than 64 levels|more than 10000"):
            parse(nested(levels, inner))


def test_deepest_result_can_be_pickled_copied_and_written() -> None:
    result = parse_result(paid(b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)), JOB)

    assert result == pickle.loads(pickle.dumps(result))
    assert result == deepcopy(result)
    assert result == Result.from_dict(json.loads(json.dumps(result.to_dict())))


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        (b"[" * 500 + b"]" * 500, "the JSON is nested more than 64 levels deep"),
        (b"[" + b"0," * 10_000 + b"0]", "more than 10000 brackets, commas and colons"),
    ],
)
def test_paid_response_beyond_a_bound_keeps_its_bytes(field: bytes, problem: str) -> None:
    body = paid(field)
    with pytest.raises(InvalidResponseError, match=problem) as caught:
        parse_result(body, JOB)

    assert body == caught.value.body
    assert not is_readable(body, JOB)


def test_videos_of_a_result_are_bounded() -> None:
    def body(videos: int) -> bytes:
        data = ",".join(['{"url": "/v"}'] * videos)
        return f'{{"status": "COMPLETED", "data": [{data}]}}'.encode()

    assert MAX_VIDEOS == len(parse_result(body(MAX_VIDEOS), JOB).videos)
    with pytest.raises(InvalidResponseError, match="it lists 1001 videos, more than 1000"):
        parse_result(body(MAX_VIDEOS + 1), JOB)


@pytest.mark.parametrize(
    "url",
    [
        b"data:video/mp4;base64," + b"QUFB" * (2 * MIB - 100),
        b"data:video\\/mp4;base64," + (b"QUFB" * 15 + b"QU\\/B") * (8 * MIB // 65 - 10),
        b"data:video\\/mp4;base64," + (b"QUFB" * 15 + b"QU\\u002BB") * (8 * MIB // 69 - 10),
    ],
    ids=["base64", "PHP", "C#"],
)
def test_video_of_8_mib_in_the_response_is_readable(url: bytes) -> None:
    body = b'{"request_id": "req-1", "status": "COMPLETED", "data": [{"url": "%s"}]}' % url

    assert is_readable(body, JOB)


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize(
    "field",
    [b"[" * 500 + b"]" * 500, b"[" + b"[]," * MAX_STRUCTURE + b"0]", b"9" * 5000 + b"x"],
    ids=["deep", "lists", "invalid"],
)
async def test_paid_response_beyond_a_bound_is_stored_and_fetched_once(
    emulator: Emulator, field: bytes
) -> None:
    request_id = emulator.add_job()
    ledger = MemoryLedger()
    body = paid(field).replace(b"req-1", request_id.encode())
    emulator.fault("result", Fault.raw(200, body))

    async with in_process(emulator, ledger=ledger) as client:
        found = []
        for call in (client.wait_for, client.result, client.result):
            with pytest.raises(InvalidResponseError) as caught:
                await call(request_id)
            found.append(caught.value.body)

    assert [body] * 3 == found
    assert ["stored"] == states(ledger)
    assert {request_id: 1} == emulator.result_calls


HOSTILE = {
    "lists": b"[" + b"[]," * (8 * MIB // 3) + b"0]",
    "keys": b"{" + b",".join(b'"%d":0' % n for n in range(740_000)) + b"}",
    "integers": b"[" + b",".join([b"9" * 4290] * (8 * MIB // 4291)) + b"]",
    "floats": b"[" + b",".join([b"1.7976931348623157e308"] * (MAX_STRUCTURE - 20)) + b"]",
    "long floats": b"[" + b",".join([b"9" * 800 + b".5"] * (MAX_STRUCTURE - 20)) + b"]",
    "objects": b"[" + b",".join([b'{"url":""}'] * 700_000) + b"]",
    "escapes": b'"' + b"\\u0041" * (8 * MIB // 6) + b'"',
    "newlines": b'"' + b"\\n" * (4 * MIB) + b'"',
    "most escapes": b'"' + b"\\u0041" * MAX_ESCAPES + b"A" * 5 * MIB + b'"',
    "emoji": b'"' + "🌊".encode() * (2 * MIB) + b'"',
}


@pytest.mark.untraced
@pytest.mark.parametrize("field", HOSTILE.values(), ids=HOSTILE)
def test_no_response_holds_the_interpreter_for_50_milliseconds(field: bytes) -> None:
    """In time of the processor: other programs of the machine do not count."""
    body = paid(field)

    assert any(_seconds(lambda: is_readable(body, JOB)) < 0.05 for _ in range(10))


def _seconds(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before

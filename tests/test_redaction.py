"""No value, error, pickle or ledger shows the key that a server quotes, in any spelling."""

from __future__ import annotations

import asyncio
import gzip
import json
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import KEY, in_process, in_virtual_time

from modelmax_async import ModelMaxError, Result, SQLiteLedger
from modelmax_async._api.bounded_json import MAX_STRUCTURE, parse
from modelmax_async._api.messages import Reply
from modelmax_async._api_key import ApiKey
from modelmax_async._http.exchange import Exchange
from modelmax_async._http.redaction import answer_quietly, quiet
from modelmax_async.emulator import Emulator, Fault

SECRET = ApiKey(KEY)
SPELLINGS = {
    "plain": KEY,
    "JSON": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "JSON in capitals": KEY.replace("k", "\\u006B").replace("-", "\\u002D"),
    "JSON in JSON": KEY.replace("-", "\\\\u002d"),
    "URL": "".join(f"%{ord(c):02X}" for c in KEY),
    "URL in a URL": KEY.replace("-", "%25252d"),
    "both": KEY.replace("s", "%73").replace("-", "\\u002d"),
}
every_spelling = pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)


def shows(value: object) -> bool:
    """Whether a value, its text or its pickle contains the key, plain or escaped."""
    texts = [repr(value), str(value), pickle.dumps(value).decode("latin-1")]
    return any(spelling in text for text in texts for spelling in SPELLINGS.values())


def paid(field: str) -> str:
    """Return a paid body with one more text; its braces are those of the text."""
    return (
        '{"request_id": "req-1", "status": "COMPLETED", "data": [{"url": "/v"}], '
        f'"usage": {{"video_seconds": 8}}, "debug": ["{field}", 1.50, NaN]}}'
    )


@every_spelling
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_body_keeps_every_byte_but_the_key(spelled: str, encoding: str) -> None:
    text = paid(f"\\/ \\ud83d\\ude00 \\ud83d Bearer {spelled}, größer \\\\ {spelled}")
    expected = text.replace(spelled, "sk-...")

    assert (
        expected.encode(encoding) == quiet(Reply(200, {}, text.encode(encoding)), SECRET).body
    )


SIGNS = ["s", "é", "😀", "\ud83d", "%", ","]
ESCAPES = [r"\\", r"\"", r"\/", r"\n", r"\u00e9", r"\ud83d", r"\ude00", r"\u002c", r"\u005c"]
PIECES = st.sampled_from([*SPELLINGS.values(), KEY[:9], KEY[9:], *SIGNS, *ESCAPES])


@given(st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES, max_size=4).map("".join))
def test_json_says_the_same_but_for_the_key(name: str, value: str) -> None:
    text = f'{{"{name}": ["{value}", 1.50]}}'
    clean = quiet(Reply(200, {}, text.encode("utf-8", "surrogatepass")), SECRET).body

    ((said_name, (said_value, _)),) = parse(text.encode("utf-8", "surrogatepass")).items()
    expected = {SECRET.hide_in(said_name): [SECRET.hide_in(said_value), 1.5]}
    assert expected == parse(clean)
    assert clean.count(b"\\") <= text.count("\\")


@every_spelling
def test_key_is_removed_from_a_body_that_is_not_json(spelled: str) -> None:
    page = f"<p>Bearer {spelled} größer</p>"

    assert (
        "<p>Bearer sk-... größer</p>".encode()
        == quiet(Reply(502, {}, page.encode()), SECRET).body
    )
    assert "<p>Bearer sk-... größer</p>" == quiet(
        Reply(502, {}, page.encode("utf-16")), SECRET
    ).body.decode("utf-16")


@every_spelling
def test_key_is_removed_from_the_headers_of_a_refusal(spelled: str) -> None:
    reply = quiet(Reply(302, {"location": f"/login?key={spelled}"}, b""), SECRET)

    assert {"location": "/login?key=sk-..."} == reply.headers


@pytest.mark.parametrize(
    "body",
    [
        paid("nothing").encode(),
        paid("nothing %25 \\u0041 \\/ \\\\").encode(),
        paid("nothing größer").encode("utf-16"),
        b"\xff\xfe\x00 broken \x80",
        b"% \xff broken",
        b"",
    ],
)
def test_body_without_the_key_keeps_every_byte(body: bytes) -> None:
    assert body == quiet(Reply(200, {}, body), SECRET).body


@given(st.binary(max_size=200))
def test_any_body_without_the_key_keeps_every_byte(body: bytes) -> None:
    assert body == quiet(Reply(200, {}, body), SECRET).body


def test_large_body_is_searched_for_the_key_as_it_is_and_for_escapes_of_json() -> None:
    long = "A" * 100_000
    escaped = paid(long + KEY.replace("-", "\\u002d")).encode()
    page = (long + KEY + long).encode()

    assert long + "sk-..." == parse(quiet(Reply(200, {}, escaped), SECRET).body)["debug"][0]
    assert (long + "sk-..." + long).encode() == quiet(Reply(200, {}, page), SECRET).body


@pytest.mark.parametrize(
    "more",
    ["é" * 600_000, '\\"' * 400_000 + "é" * 200_000, "\\u002c" * 20_000, "\\u002c" * 10_001],
    ids=["not ASCII", "quotation marks", "escaped commas", "a few escaped commas"],
)
def test_body_within_the_bounds_stays_within_them_without_the_key(more: str) -> None:
    body = paid(f'{KEY}", "{more}').encode()
    clean = quiet(Reply(200, {}, body), SECRET).body

    assert body.replace(KEY.encode(), b"sk-...") == clean
    assert "COMPLETED" == parse(clean)["status"]


@pytest.mark.parametrize("more", ["\\u00e9" * 20_001, f"\\/{KEY}" * 10_001])
def test_string_with_the_key_and_too_many_escapes_is_replaced_as_a_whole(more: str) -> None:
    body = paid(f'{KEY}{more}", "\\/{KEY}", "\\/", "{KEY}!').encode()
    clean = parse(quiet(Reply(200, {}, body), SECRET).body)

    assert {**parse(body), "debug": 0} == {**clean, "debug": 0}
    assert ["sk-...", "sk-...", "/", "sk-...!"] == clean["debug"][:4]


def test_search_for_escapes_of_urls_is_bounded_for_the_whole_body() -> None:
    """Otherwise many strings, each within the bound, would hold up the event loop."""
    spelled = SPELLINGS["URL"]
    early, late = "%" * 60_000, "%" * 10_000
    body = paid(f'{spelled}{early}", "{late}{spelled}{KEY}').encode()

    assert [f"sk-...{early}", f"{late}{spelled}sk-..."] == parse(
        quiet(Reply(200, {}, body), SECRET).body
    )["debug"][:2]


def test_body_beyond_the_bounds_is_searched_too() -> None:
    body = (KEY + "," * MAX_STRUCTURE * 2).encode()

    assert KEY.encode() not in quiet(Reply(200, {}, body), SECRET).body


def test_key_with_characters_that_json_escapes_is_removed() -> None:
    key = ApiKey('sk-a/b"c\\d+e')
    body = json.dumps({"a": key.reveal()}).replace("/", "\\/").encode()

    assert {"a": "sk-..."} == parse(quiet(Reply(200, {}, body), key).body)


def test_body_that_cannot_be_unpacked_keeps_every_byte() -> None:
    reply = Reply(200, {"content-encoding": "gzip"}, b"not gzip")

    assert reply == quiet(reply, SECRET)


@pytest.mark.parametrize(
    "word",
    ["COMPLETED", "IN_PROGRESS", "request_id", "modelmax", "requests", "localdev", "dev-1"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_key_that_is_an_ordinary_word_is_not_replaced(word: str, encoding: str) -> None:
    body = f'{{"status": "{word}", "url": "https://{word}.example/%41"}}'.encode(encoding)

    assert body == quiet(Reply(200, {}, body), ApiKey(word)).body
    assert word == ApiKey(word).hide_in(word)


@pytest.mark.parametrize("key", ["localdev1", "12345678", "abcdefghijklmnopqrst"])
def test_key_that_is_no_ordinary_word_is_replaced(key: str) -> None:
    assert (
        b'{"a": "sk-..."}'
        == quiet(Reply(200, {}, b'{"a": "%s"}' % key.encode()), ApiKey(key)).body
    )


@in_virtual_time
@every_spelling
@pytest.mark.anyio
class TestServerThatQuotesTheKey:
    async def test_paid_result_does_not_show_it(
        self, emulator: Emulator, spelled: str, tmp_path: Path
    ) -> None:
        """It is readable, billed once, and the ledger does not hold the key either."""
        request_id = emulator.add_job()
        body = paid(spelled).replace("req-1", request_id).replace('"/v"', f'"/v?k={spelled}"')
        emulator.fault("result", Fault.raw(200, body.encode()))
        path = tmp_path / "runs.db"

        async with in_process(emulator, ledger=SQLiteLedger(path)) as client:
            result = await client.wait_for(request_id)
            again = await client.result(request_id)
        with closing(sqlite3.connect(path)) as db:
            ((stored,),) = db.execute("SELECT body FROM entries").fetchall()

        assert isinstance(result, Result)
        assert "/v?k=sk-..." == result.videos[0].url
        assert "sk-..." == result.raw["debug"][0]
        assert not shows(result)
        assert not shows(again.to_dict())
        assert not shows(stored)
        assert {request_id: 1} == emulator.result_calls

    async def test_compressed_result_does_not_show_it(
        self, emulator: Emulator, spelled: str
    ) -> None:
        request_id = emulator.add_job()
        body = gzip.compress(paid(spelled).replace("req-1", request_id).encode())
        emulator.fault("result", Fault.raw(200, body, headers={"content-encoding": "gzip"}))

        async with in_process(emulator) as client:
            result = await client.wait_for(request_id)

        assert "sk-..." == result.raw["debug"][0]

    @pytest.mark.parametrize("endpoint", ["status", "result"])
    @pytest.mark.parametrize(
        ("code", "body"),
        [
            (400, '{{"error": {{"message": "{0}", "type": "{0}", "more": ["{0}"]}}}}'),
            (200, '{{"request_id": "x", "status": "{0}"}}'),
            (200, "<html>{0}"),
            (302, "{0}"),
        ],
    )
    async def test_error_does_not_show_it(
        self, emulator: Emulator, spelled: str, endpoint: Any, code: int, body: str
    ) -> None:
        request_id = emulator.add_job()
        text = body.format(spelled)
        emulator.fault(endpoint, Fault.raw(code, text.encode()), times=None)

        async with in_process(emulator) as client:
            call: Callable[[str], Any] = getattr(client, endpoint)
            with pytest.raises(ModelMaxError) as caught:
                await call(request_id)

        assert not shows(caught.value)
        assert not shows(caught.value.__dict__)

    async def test_status_does_not_show_it(self, emulator: Emulator, spelled: str) -> None:
        request_id = emulator.add_job()
        text = '{"request_id": "%s", "status": "FAILED", "error": {"why": "%s"}, "x": "%s"}'
        body = text % (request_id, spelled, spelled)
        emulator.fault("status", Fault.raw(200, body.encode()))

        async with in_process(emulator) as client:
            report = await client.status(request_id)

        assert '{"why": "sk-..."}' == report.error
        assert not shows(report)


@pytest.mark.anyio
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 5, 6])
async def test_long_answer_is_noted_without_the_key_also_if_cancelled(
    turns: int,
) -> None:
    body = b'{"status": "COMPLETED", "key": "%s", "x": "%s"}' % (KEY.encode(), b"a" * 2**20)
    exchange = Exchange()
    task = asyncio.create_task(answer_quietly(exchange, Reply(200, {}, body), ApiKey(KEY)))
    for _ in range(1 + turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert exchange.reply is not None
    assert body.replace(KEY.encode(), b"sk-...") == exchange.reply.body
    assert task.cancelled() is (turns < 6)


@pytest.mark.anyio
async def test_long_answer_that_is_no_json_is_noted_without_the_key() -> None:
    body = b"<html>" + KEY.encode() + b"a" * 2**20
    reply = await answer_quietly(Exchange(), Reply(200, {}, body), ApiKey(KEY))

    assert body.replace(KEY.encode(), b"sk-...") == reply.body

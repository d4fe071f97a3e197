"""The canary: a test that lets the API key out, in any spelling, would fail."""

from __future__ import annotations

import base64
import gc
import logging
import pickle
from pathlib import Path
from urllib.parse import quote

import pytest
from canary import AFTER_ALL, KEY, ON_PURPOSE, Canary, shows, watched
from support import ORIGIN

from modelmax_async import DownloadError, ModelMaxError, SQLiteLedger
from modelmax_async._api.paths import make_job
from modelmax_async._runtime.hooks import Hooks
from modelmax_async.events import ClaimReleased
from modelmax_async.ledger import Claim, Key

TESTS = Path(__file__).parent
JOB = make_job("veo-3", "reef")
LEAK = make_job("veo-3", KEY)


@pytest.fixture
def own() -> Canary:
    """A canary of the test's own, whose hits are expected."""
    return Canary(test="here")


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"Bearer {KEY}",
        repr([(b"Authorization", KEY.encode())]),
        KEY.replace("-", "\\u002D"),
        quote(KEY.replace("-", "%2D")),
        "".join(f"%{ord(character):02x}" for character in KEY),
        "".join(f"\\u{ord(character):04x}" for character in KEY),
        KEY.encode().hex(),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        base64.b64encode(f"Bearer {KEY}, more".encode()).decode(),
        base64.urlsafe_b64encode(f"key={KEY};".encode()).decode(),
    ],
)
def test_key_is_found_in_every_spelling(text: str) -> None:
    assert shows(text)
    assert shows(text.encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-16-le"])
def test_key_is_found_in_every_encoding(encoding: str) -> None:
    assert shows(f"key {KEY}".encode(encoding))
    assert not shows("key sk-...".encode(encoding))


def test_key_in_a_debug_record_of_any_library_is_a_hit(own: Canary) -> None:
    own.check_record(logging.makeLogRecord({"name": "httpcore", "msg": f"key {KEY}"}))
    own.check_record(logging.makeLogRecord({"msg": "%s", "args": (b"Bearer " + KEY.encode(),)}))
    own.check_record(logging.makeLogRecord({"msg": "fine", "modelmax_job": KEY}))
    own.check_record(
        logging.makeLogRecord({"msg": "failed", "exc_info": (None, ValueError(KEY), None)})
    )
    own.check_record(logging.makeLogRecord({"msg": "fine"}))

    assert 4 == len(own.hits)
    assert f"here: log record of httpcore: key {KEY}" == own.hits[0]


def test_key_in_an_event_is_a_hit(own: Canary) -> None:
    own.check_event(ClaimReleased(LEAK, KEY))

    assert ["here: event ClaimReleased"] == own.hits


def test_key_in_an_error_is_a_hit(own: Canary) -> None:
    told = DownloadError("the video could not be saved", part=f"/videos/{KEY}.part")
    told.__cause__ = ValueError(base64.b64encode(KEY.encode()).decode())
    own.check_error(told)

    assert [
        "here: DownloadError and what caused it",
        "here: pickle of DownloadError",
        "here: dict of DownloadError",
    ] == own.hits


def test_key_in_a_variable_of_a_traceback_is_a_hit(own: Canary) -> None:
    code = compile(
        f"def call():\n token = {KEY!r}\n raise ModelMaxError('no')", "package.py", "exec"
    )
    scope: dict[str, object] = {"ModelMaxError": ModelMaxError}
    exec(code, scope)  # noqa: S102 - a function of another file than this one
    call = scope["call"]
    assert callable(call)
    try:
        call()
    except ModelMaxError as exc:
        own.check_traceback(exc)

    assert ["here: token in a traceback at package.py:3"] == own.hits


@pytest.mark.anyio
async def test_key_in_a_ledger_or_a_pickle_is_a_hit(own: Canary, tmp_path: Path) -> None:
    directory = tmp_path.parent / f"{tmp_path.name}_own"
    directory.mkdir()
    ledger = SQLiteLedger(directory / "runs.db")
    await ledger.apply(Key(ORIGIN, KEY), Claim(LEAK, "owner", "a1", 10.0))
    await ledger.aclose()
    (directory / "job.pickle").write_bytes(pickle.dumps(LEAK))
    (directory / "clean.pickle").write_bytes(pickle.dumps(JOB))
    own.search(directory)
    found = sorted(own.hits)
    for file in directory.iterdir():
        file.unlink()

    assert ["here: file job.pickle", "here: file runs.db"] == found


def test_what_is_logged_emitted_and_raised_is_watched(own: Canary) -> None:
    log = logging.getLogger("some.library")
    with watched(own):
        own.begin("here")
        log.debug("key %s", KEY.replace("-", "%2D"))
        Hooks().emit(ClaimReleased(LEAK, "a1"))
        with pytest.raises(ModelMaxError):
            raise ModelMaxError(KEY.replace("-", "\\u002d"))
        gc.collect()
    seen = {hit.partition(":")[2].split()[0] for hit in own.hits}

    assert {"log", "event", "ModelMaxError", "pickle"} <= seen


def test_records_below_the_level_of_a_test_are_not_passed_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logging.getLogger("some.library")
    log.debug("below the level of the root logger")
    log.warning("at its level")
    caplog.set_level(logging.DEBUG, "some.library")
    log.debug("at the level that the test has set")

    assert ["at its level", "at the level that the test has set"] == caplog.messages


@pytest.mark.parametrize(
    ("test", "_place", "reason"), [each for each in ON_PURPOSE if each[0] != AFTER_ALL]
)
def test_every_test_that_shows_the_key_exists(test: str, _place: str, reason: str) -> None:
    module, _, name = test.partition("::")

    assert f"def {name}" in (TESTS / module).read_text("utf-8")
    assert reason

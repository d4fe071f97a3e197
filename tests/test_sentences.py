"""A text from elsewhere inside a message never doubles a full stop, nor loses one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest
from support import in_process, in_virtual_time

from modelmax_async import _errors as errors
from modelmax_async._api.endpoints import parse_result
from modelmax_async._billing.outcomes import read_entry
from modelmax_async._cli.exits import _line
from modelmax_async._cli.records import problem_of
from modelmax_async._client.submits import _submit_uncertain
from modelmax_async._download.errors import download_error
from modelmax_async._download.transfer import TransientError
from modelmax_async._errors import ModelMaxError, SubmitUncertainError
from modelmax_async._errors.sentences import clause, sentence
from modelmax_async._models import Job, LedgerEntry
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.ledger.postgres_errors import explain as explain_postgres
from modelmax_async.ledger.sqlite_file import explain as explain_sqlite

JOB = Job("veo-3", "reef")
ENDINGS = [
    "it broke",
    "it broke.",
    "it broke!",
    "it broke?",
    "it broke…",
    "it broke...",
    "it broke. ",
]
FAULTS: tuple[tuple[Literal["submit", "status", "result"], int], ...] = (
    ("submit", 500),
    ("status", 401),
    ("result", 504),
)
#: A doubled mark, a blank before one, or a full stop inside a sentence.
BAD = re.compile(r"(?<!\.)\.\.(?!\.)|[!?…]\.|\.{4}|\s\.(?=\s|$)|(?<!\.)\.[);,]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it broke", "it broke."),
        ("it broke.", "it broke."),
        ("it broke!", "it broke!"),
        ("it broke?", "it broke?"),
        ("it broke…", "it broke…"),
        ("it broke...", "it broke..."),
        ("it broke. \n", "it broke."),
    ],
)
def test_sentence_ends_in_one_mark(text: str, expected: str) -> None:
    assert expected == sentence(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it broke", "it broke"),
        ("it broke. ", "it broke"),
        ("it broke!", "it broke!"),
        ("it broke...", "it broke..."),
    ],
)
def test_clause_ends_without_a_full_stop(text: str, expected: str) -> None:
    assert expected == clause(text)


def _api(text: str) -> errors.APIError:
    return errors.APIError(text, status_code=500)


def _uncertain(text: str) -> errors.ModelMaxError:
    entry = LedgerEntry(job=JOB, state="uncertain", since=1.0, attempt="a1", cause=text)
    with pytest.raises(errors.ResultUncertainError) as caught:
        read_entry(entry, JOB, also=f"now the server says FAILED: {text}")
    return caught.value


def _unreadable(text: str) -> errors.ModelMaxError:
    with pytest.raises(errors.InvalidResponseError) as caught:
        parse_result(
            b'{"status": "COMPLETED", "data": [{"url": 5}], "%s": 1}' % text.encode(), JOB
        )
    return caught.value


def _transport(text: str) -> errors.TransportError:
    return errors.TransportError(text, maybe_sent=True)


MESSAGES: dict[str, Any] = {
    "APIError": _api,
    "JobFailedError": lambda text: errors.JobFailedError(text, job=JOB),
    "ResultUncertainError": lambda text: errors.ResultUncertainError(
        text, job=JOB, phase="sent", since=1.0
    ),
    "ResultUncertainError of two causes": _uncertain,
    "InvalidResponseError": _unreadable,
    "SubmitUncertainError": lambda text: _submit_uncertain(text, keyed=True),
    "SubmitUncertainError of an error": lambda text: _submit_uncertain(_api(text), keyed=False),
    "DownloadError": lambda text: download_error(TransientError(text), "a video", url="/v"),
    "DownloadError of a response": lambda text: download_error(
        errors.NotFoundError(text, status_code=404), "a video", url="/v"
    ),
    "DownloadError of another response": lambda text: download_error(
        _api(text), "it", url="/v"
    ),
    "DownloadError of a transfer": lambda text: download_error(
        _transport(text), "a video", url="/v", part=Path("v.part")
    ),
    "LedgerError of SQLite": lambda text: explain_sqlite(OSError(text), Path("runs.db")),
    "LedgerError of PostgreSQL": lambda text: explain_postgres(OSError(text), "modelmax"),
    "line of the command line": lambda text: _line(
        errors.AuthenticationError(text, status_code=401)
    ),
    "problem of a refused wait": lambda text: problem_of(_refused(text)),
}


def _refused(text: str) -> errors.JobTimeoutError:
    error = errors.JobTimeoutError("no result within 5 seconds", job=JOB)
    error.__cause__ = _transport(text)
    return error


@pytest.mark.parametrize("make", MESSAGES.values(), ids=MESSAGES.keys())
@pytest.mark.parametrize("text", ENDINGS)
def test_no_message_doubles_a_full_stop(make: Any, text: str) -> None:
    message = str(make(text)).removesuffix(text)

    assert not BAD.search(message), message


def test_commands_do_not_claim_that_a_refused_job_is_running() -> None:
    line = problem_of(_refused("connection refused"))

    assert (
        "the server could not be asked: connection refused. Run the same command again" == line
    )


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("text", ENDINGS)
async def test_no_message_about_a_response_doubles_a_full_stop(
    emulator: Emulator, text: str, tmp_path: Path
) -> None:
    found: list[ModelMaxError] = []
    async with in_process(emulator) as client:
        for endpoint, status in FAULTS:
            emulator.fault(endpoint, Fault.error(status, message=text))
            with pytest.raises(ModelMaxError) as caught:
                await client.generate("a reef")
            found.append(caught.value)

    assert isinstance(found[0], SubmitUncertainError)
    assert [] == [str(error) for error in found if BAD.search(str(error))]

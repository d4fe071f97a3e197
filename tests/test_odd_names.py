"""An id, a model or a key with odd characters is escaped in messages, and stays as it is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cli_support import run, served
from support import IMPATIENT, in_process, in_virtual_time

from modelmax_async import Job, LedgerEntry, ModelMaxError, _errors
from modelmax_async._cli import listing
from modelmax_async._cli.exits import Failure
from modelmax_async._client.upkeep import _check_not_renewed
from modelmax_async._errors.sentences import plain
from modelmax_async._polling.learning import _read, _why
from modelmax_async.emulator import Emulator, Fault

ODD = "a\u202eb\u2028c\u2066d\u200be\u00a0f"
SHOWN = r"a\u202eb\u2028c\u2066d\u200be\xa0f"
JOB = Job(ODD, ODD)


def messages() -> list[ModelMaxError]:
    """One error of each class, about an odd job."""
    uncertain: dict[str, Any] = {"phase": "sent", "since": 1.0}
    return [
        _errors.APIError(ODD, status_code=500, error_type=ODD, job=JOB),
        _errors.ConfigurationError(ODD),
        _errors.ClientStateError(ODD, job=JOB),
        _errors.DownloadError(f"video 0 of {ODD}", job=JOB),
        _errors.InconsistentStateError("x", job=JOB),
        _errors.InvalidResponseError(f"the response for job {ODD}", job=JOB),
        _errors.JobFailedError(ODD, job=JOB),
        _errors.JobTimeoutError("x", job=JOB),
        _errors.KeyConflictError(ODD, key=ODD),
        _errors.LedgerError(ODD),
        _errors.NotReadyError("x", job=JOB),
        _errors.ResultDroppedError(job=JOB),
        _errors.ResultUncertainError(ODD, job=JOB, **uncertain),
        _errors.SubmitUncertainError(ODD),
        _errors.TransportError(ODD, maybe_sent=True, job=JOB),
    ]


@pytest.mark.parametrize("error", messages(), ids=lambda error: type(error).__name__)
def test_message_of_an_error_escapes_them(error: ModelMaxError) -> None:
    assert str(error).isprintable()
    assert SHOWN in str(error)
    assert error.job in {None, JOB}


def test_printable_text_stays_as_it_is() -> None:
    assert "größer, 更大 🌊" == plain("größer, 更大 🌊")


@pytest.mark.anyio
@in_virtual_time
class TestClient:
    async def test_errors_of_single_calls_escape_them(self, emulator: Emulator) -> None:
        emulator.fault("status", Fault.raw(200, b"{}"), times=None)
        emulator.fault("result", Fault.raw(200, b"{}"))

        async with in_process(emulator, retry=IMPATIENT) as client:
            found = [
                await caught(client.status(JOB)),
                await caught(client.result(JOB)),
                await caught(client.forget(JOB)),
                await caught(client.mark_saved(Job("veo-3", f"not {ODD}"))),
            ]
        with pytest.raises(ValueError, match="is being fetched") as leased:
            _check_not_renewed(LedgerEntry(job=JOB, state="armed", since=1.0), 5.0)

        assert [True] * 5 == [SHOWN in text for text in (*found, str(leased.value))]
        assert all(text.isprintable() for text in found)

    async def test_log_escapes_them(
        self, emulator: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        request_id = emulator.add_job(ODD, model=ODD)
        with caplog.at_level(logging.DEBUG, "modelmax_async"):
            async with in_process(emulator, model=ODD) as client:
                await client.wait_for(request_id)
        _read(ODD, b"damaged")

        lines = [line for line in caplog.messages if "a" + SHOWN[1:] in line]

        assert lines
        assert all(line.isprintable() for line in caplog.messages)

    async def test_value_keeps_them(self, emulator: Emulator) -> None:
        request_id = emulator.add_job(ODD)

        async with in_process(emulator) as client:
            result = await client.wait_for(request_id)

        assert ODD == result.request_id
        assert {ODD: 1} == emulator.billed


async def caught(call: Any) -> str:
    with pytest.raises((ModelMaxError, ValueError)) as found:
        await call
    return str(found.value)


def test_ledger_of_the_users_own_cannot_forge_a_line() -> None:
    assert SHOWN == _why(OSError(ODD))


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def _ledger(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        monkeypatch.setenv("MODELMAX_LEDGER", str(tmp_path / "runs.db"))

    @pytest.mark.parametrize(
        "arguments",
        [
            ["wait", ODD],
            ["download", ODD, "--directory", "videos"],
            ["resolve", ODD, "--forget", "--yes"],
            ["status", ODD, "--model", "veo-3"],
        ],
    )
    def test_error_does_not_show_them(self, arguments: list[str]) -> None:
        with served(Emulator()) as url:
            ended = run(*arguments, MODELMAX_API_BASE_URL=url)

        assert 0 != ended.exit_code
        assert all(line.isprintable() for line in ended.output.splitlines())
        assert "a\ufffdb\ufffdc" in ended.output or r"a\u202eb" in ended.output

    def test_id_is_printed_as_it_is_unless_on_a_terminal(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listing.print_job(JOB, as_json=False)
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        listing.print_job(JOB, as_json=False)

        printed = capsys.readouterr().out.split("\n")

        assert [ODD, "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf", ""] == printed

    def test_failure_does_not_show_them(self) -> None:
        assert f"one\n{SHOWN}" == Failure(f"one\n{ODD}").message

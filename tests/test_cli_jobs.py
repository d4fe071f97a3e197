"""The commands that submit and wait, in process, against an emulator on a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import poll_fast, records, run, served
from click.testing import Result

from modelmax_async._cli import exits, jobs, options, report
from modelmax_async.emulator import Emulator, Fault, JobScript

MODEL = ("--model", "veo-3")


@pytest.fixture
def url(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the emulator in a thread, for commands that poll fast."""
    poll_fast(monkeypatch)
    with served(emulator) as address:
        monkeypatch.setenv("MODELMAX_API_BASE_URL", address)
        yield address


@pytest.fixture
def ledger(url: str, tmp_path: Path) -> tuple[str, str]:
    """The option for a fresh ledger."""
    return ("--ledger", str(tmp_path / "runs.db"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("A reef\nRain\nA reef\n")
    return path


def jobs_of(ledger: tuple[str, str]) -> list[str]:
    """Return the ids of the jobs that are paid for."""
    return [record["request_id"] for record in records(run("stored", *ledger, "--json").stdout)]


def lines(result: Result) -> list[list[str]]:
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_generate_prints_where_each_video_is_saved(
    emulator: Emulator, ledger: tuple[str, str], prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run("generate", str(prompts), *MODEL, *ledger, "--directory", str(out))
    keys, paths = zip(*lines(done), strict=True)

    assert 0 == done.exit_code, done.output
    assert 3 == len(set(keys)) == emulator.billed_total
    assert sorted(paths) == sorted(str(path) for path in out.iterdir())
    assert done.stderr.endswith("3 jobs: 3 done\n")
    assert 4 == len(done.stderr.splitlines()), "a line for each job, and the sum"


def test_files_are_named_by_a_template(ledger: tuple[str, str], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,key\nA reef,row-1\nRain,row-2\n")
    options = ("--directory", str(tmp_path / "out"), "--name", "{key}.{suffix}")
    done = run("generate", str(prompts), *MODEL, *ledger, *options)
    again = run("gather", *jobs_of(ledger), *ledger, *options)

    assert (0, 0) == (done.exit_code, again.exit_code)
    assert ["row-1.mp4", "row-2.mp4"] == sorted(p.name for p in (tmp_path / "out").iterdir())


def test_generate_again_neither_submits_nor_pays(
    emulator: Emulator, ledger: tuple[str, str], prompts: Path, tmp_path: Path
) -> None:
    command = ("generate", str(prompts), *MODEL, *ledger, "--directory", str(tmp_path / "out"))
    first = run(*command)
    prompts.write_text("# one more\nWaves\n" + prompts.read_text())
    again = run(*command)

    assert sorted(lines(first)) == sorted(line for line in lines(again) if line in lines(first))
    assert 4 == len(lines(again)) == emulator.submits == emulator.billed_total


def test_generate_takes_prompts_files_and_standard_input(
    emulator: Emulator, ledger: tuple[str, str], prompts: Path
) -> None:
    stdin = "Waves\n"
    arguments = (str(prompts), "A paper boat", "-", "-p", "cat")
    done = run("generate", *arguments, *MODEL, *ledger, "--json", stdin=stdin)
    found = sorted(record["prompt"] for record in records(done.stdout))

    assert ["A paper boat", "A reef", "A reef", "Rain", "Waves", "cat"] == found
    assert "URL" not in done.stderr


def test_generate_prints_an_object_for_each_job_that_ends(
    emulator: Emulator, ledger: tuple[str, str]
) -> None:
    emulator.script(JobScript(outcome="FAILED", error="refused"), JobScript())
    done = run("generate", "-p", "A reef", "-p", "Rain", *MODEL, *ledger, "--json")
    found = sorted(records(done.stdout), key=lambda record: str(record["state"]))

    assert 1 == done.exit_code
    assert ["done", "failed"] == [record["state"] for record in found]
    assert "JobFailedError" == found[1]["error"]["type"]
    assert found[0]["videos"]
    assert "refused" in done.stderr
    assert "2 jobs: 1 done, 1 failed\n" in done.stderr


def test_uncertain_charge_exits_3(emulator: Emulator, ledger: tuple[str, str]) -> None:
    emulator.fault("result", Fault.drop_after())
    done = run("generate", "A paper boat", *MODEL, *ledger)

    assert 3 == done.exit_code
    assert "1 job: 1 uncertain\n" in done.stderr
    assert "ResultUncertain(" not in done.stderr, "the event is not logged as well"


def test_generate_stops_at_an_empty_balance(
    emulator: Emulator, ledger: tuple[str, str]
) -> None:
    emulator.balance = 0
    done = run("generate", "A paper boat", *MODEL, *ledger)
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]

    assert 1 == done.exit_code
    assert error.startswith("Error: HTTP 402 insufficient_balance from 127.0.0.1:")
    assert error.endswith("Run the same command again to go on.")


def test_bad_row_is_reported_before_anything_is_submitted(
    emulator: Emulator, ledger: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,duration_seconds\nA reef,8\nRain,9\n")
    done = run("generate", str(path), *MODEL, *ledger)

    assert 2 == done.exit_code
    assert (
        f"Error: {path}, line 3: duration_seconds must be an integer from 1 to 8, got 9\n"
        == done.stderr
    )
    assert 0 == emulator.submits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", *MODEL], "Error: no prompts: pass a file, or prompts\n"),
        (["generate", "promts.txt", *MODEL], "No such file or directory: 'promts.txt'\n"),
        (["generate", "A paper boat"], "Error: prompt 1: no model: pass --model, or set it"),
        (["generate", "A boat", "-P", "seed=7"], "unknown parameter 'seed'; allowed: aspect_r"),
        (
            ["generate", "A boat", "-P", "sample_count"],
            "sample_count must be an integer, got ''",
        ),
        (["generate", "A boat", "--name", "{key}"], "--name is for the files in a --directory"),
        (["wait", "reef", "--directory", "out", "--name", "film"], "--name': "),
        (["submit", "a", "b", "--key", "k", *MODEL], "--key is for one prompt only"),
        (["gather"], "pass either ids or --pending"),
        (["gather", "reef", "--pending"], "pass either ids or --pending"),
        (["wait", "reef"], "Error: the ledger has no open job reef: pass --model\n"),
        (["wait", "..", *MODEL], "Error: request id must be non-empty and without '.' or"),
    ],
)
def test_wrong_usage_is_one_error_without_a_traceback(
    ledger: tuple[str, str], arguments: list[str], message: str
) -> None:
    done = run(*arguments, *ledger)

    assert done.exit_code in {1, 2}
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_command_without_a_key_names_the_variable(ledger: tuple[str, str]) -> None:
    done = run("submit", "A reef", *MODEL, *ledger, MODELMAX_API_KEY="")

    assert 2 == done.exit_code
    assert "Error: no API key: set MODELMAX_API_KEY\n" == done.stderr


def test_parameters_are_sent_with_each_prompt(
    emulator: Emulator, ledger: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("first.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    options = ("-P", "resolution=1080p", "-P", "generate_audio=no", "-P", "image=first.png")
    done = run("submit", "A reef", *options, *MODEL, *ledger)
    (job,) = emulator.jobs.values()

    assert 0 == done.exit_code, done.output
    assert "iVBORw0KGgo=" == job.parameters["image"]
    assert (False, "1080p") == (job.parameters["generate_audio"], job.parameters["resolution"])


def test_submit_prints_the_ids_and_submits_each_key_once(
    emulator: Emulator, ledger: tuple[str, str]
) -> None:
    first = run("submit", "A reef", "A reef", *MODEL, *ledger)
    again = run("submit", "A reef", *MODEL, *ledger, "--json")
    other = run("submit", "A reef", "--key", "another", *MODEL, *ledger)
    ids = first.stdout.split()

    assert "" == first.stderr
    assert ids == list(emulator.jobs)[:2]
    assert [ids[0]] == [record["request_id"] for record in records(again.stdout)]
    assert other.stdout.split() == list(emulator.jobs)[2:]


def test_key_of_another_request_is_wrong_usage(ledger: tuple[str, str]) -> None:
    run("submit", "A reef", "--key", "k", *MODEL, *ledger)
    done = run("submit", "Rain", "--key", "k", *MODEL, *ledger)

    assert 2 == done.exit_code
    assert done.stderr.startswith("Error: the key 'k' belongs to another request")


def test_wait_prints_where_the_videos_of_an_id_from_elsewhere_are(
    emulator: Emulator, ledger: tuple[str, str]
) -> None:
    request_id = emulator.add_job(script=JobScript(videos=2))
    done = run("wait", request_id, *MODEL, *ledger)

    assert 0 == done.exit_code
    assert [request_id] * 2 == [name for name, _ in lines(done)]
    assert all(where.endswith(("/content/0", "/content/1")) for _, where in lines(done))


def test_gather_pending_waits_for_what_was_submitted_and_saves_it(
    emulator: Emulator, ledger: tuple[str, str], tmp_path: Path
) -> None:
    ids = run("submit", "A reef", "Rain", *MODEL, *ledger).stdout.split()
    done = run("gather", "--pending", *ledger, "--directory", str(tmp_path / "out"), "--json")

    assert 0 == done.exit_code
    assert sorted(ids) == sorted(record["request_id"] for record in records(done.stdout))
    assert 2 == len(list((tmp_path / "out").iterdir()))
    assert "" == run("pending", *ledger).stdout


def test_gather_finds_the_model_of_an_id_in_the_ledger(
    emulator: Emulator, ledger: tuple[str, str]
) -> None:
    (request_id,) = run("submit", "A reef", *MODEL, *ledger).stdout.split()
    done = run("gather", request_id, request_id, *ledger, "--json")

    assert [request_id] == [record["request_id"] for record in records(done.stdout)]
    assert 1 == emulator.billed_total


def test_job_that_does_not_end_in_time_exits_1(
    emulator: Emulator, ledger: tuple[str, str]
) -> None:
    emulator.script(JobScript(run_seconds=60))
    (request_id,) = run("submit", "A reef", *MODEL, *ledger).stdout.split()
    done = run("wait", request_id, *ledger, "--timeout", "0.1")

    assert 1 == done.exit_code
    assert "1 job: 1 unfinished\n" in done.stderr


def test_failed_download_is_reported_and_can_be_repeated(
    emulator: Emulator, ledger: tuple[str, str], tmp_path: Path
) -> None:
    emulator.fault("content", Fault.error(404, type="not_found"), times=None)
    (request_id,) = run("submit", "A reef", *MODEL, *ledger).stdout.split()
    done = run("wait", request_id, *ledger, "--directory", str(tmp_path / "out"))
    emulator.clear_faults()
    again = run("download", "--unsaved", *ledger, "--directory", str(tmp_path / "out"))

    assert (1, 0) == (done.exit_code, again.exit_code)
    assert "failed" in done.stderr
    assert 1 == len(lines(again)) == emulator.billed_total


def test_status_asks_for_each_job(emulator: Emulator, ledger: tuple[str, str]) -> None:
    reef = emulator.add_job("reef")
    rain = emulator.add_job("rain", script=JobScript(outcome="FAILED", error="refused"))
    done = run("status", reef, "unknown", rain, *MODEL, *ledger)
    as_json = run("status", rain, *MODEL, *ledger, "--json")

    assert 1 == done.exit_code
    assert [["reef", "COMPLETED", ""], ["rain", "FAILED", "refused"]] == lines(done)
    assert done.stderr.startswith("unknown: HTTP 400 ")
    assert [{"request_id": "rain", "status": "FAILED", "error": "refused"}] == records(
        as_json.stdout
    )
    assert 0 == emulator.billed_total


def test_default_ledger_is_made_in_the_data_directory(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / "ledger.db"
    monkeypatch.setattr(options, "LEDGER", path)
    done = run("submit", "A reef", *MODEL, "--ledger", str(path))

    assert 0 == done.exit_code, done.output
    assert path.is_file()


def test_interrupted_command_says_how_to_go_on(
    ledger: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "_submit", interrupted)
    done = run("submit", "A reef", *MODEL, *ledger)

    assert 130 == done.exit_code
    assert f"\n{exits.INTERRUPTED}\n" == done.stderr


@pytest.mark.parametrize("command", ["generate", "gather"])
def test_closed_pipe_ends_a_command_without_a_word(
    command: str, ledger: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    ids = run("submit", "A reef", *MODEL, *ledger).stdout.split()
    monkeypatch.setattr(report, "print_line", broken)
    arguments = ["-p", "A reef"] if command == "generate" else ids
    done = run(command, *arguments, *MODEL, *ledger)

    assert (1, "") == (done.exit_code, done.stderr)
    assert not isinstance(done.exception, ExceptionGroup)


def test_closed_pipe_of_a_list_of_ids_is_no_error_message(
    ledger: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(jobs, "_submit", broken)
    done = run("submit", "A reef", *MODEL, *ledger)

    assert (1, "") == (done.exit_code, done.stderr)

"""Fuzzing of files of prompts: each is read, or refused in one line without a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_support import run
from corpora import damaged, each_of, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from strategies import wild_json

from modelmax_async._cli.formats import COLUMNS
from modelmax_async._cli.requests import RequestError, Requests
from modelmax_async._cli.sources import File

SUFFIXES = [".txt", ".csv", ".jsonl", ".ndjson", ".json", ".CSV", ""]
VALID = [
    b"A reef\n# a comment\n\nRain on glass\n",
    b'prompt,model,key,generate_audio\r\nA reef,veo-3,k1,yes\r\n"Rain, ""hard""\nagain",,,\r\n',
    b'"A reef"\n{"prompt": "Rain", "key": "k", "duration_seconds": 4, "extra": {"seed": 1}}\n',
]
_rows = st.dictionaries(
    st.sampled_from([*COLUMNS, "extra", "prompt", "prompt", "surprise"]), wild_json, max_size=6
)
_row = st.builds(lambda row, prompt: {"prompt": prompt} | row, _rows, st.just("A reef"))
_lines = st.lists(_rows | _row | wild_json, max_size=4).map(
    lambda rows: b"\n".join(json.dumps(row).encode() for row in rows)
)
_cells = st.lists(st.sampled_from([*COLUMNS, "1", "yes", "16:9", '"', "", "A reef", "\0", "²"]))
_csv = st.lists(_cells.map(",".join), max_size=4).map(
    lambda rows: "\n".join(["prompt,model,sample_count", *rows]).encode()
)
contents = st.binary(max_size=200) | damaged(*VALID) | _lines | _csv


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


def requests_of(path: Path) -> list[str]:
    """Return the requests of a file as text, or the error in their place."""
    file = File(str(path))
    try:
        return [repr(request) for request in Requests([file], "veo-3")]
    except RequestError as exc:
        return [str(exc)]
    finally:
        file.close()


def check(path: Path) -> None:
    """Check a file as the command line reads it: without a key, nothing is submitted."""
    done = run("generate", str(path), "--model", "veo-3", MODELMAX_API_KEY="")

    assert 2 == done.exit_code
    assert "" == done.stdout
    assert done.stderr.startswith("Error: ")
    assert done.stderr.removesuffix("\n").isprintable()
    assert requests_of(path) == requests_of(path)


@fuzzed
@given(data=contents, suffix=st.sampled_from(SUFFIXES))
def test_any_file_of_prompts_is_read_or_refused(
    directory: Path, data: bytes, suffix: str
) -> None:
    path = directory / f"prompts{suffix}"
    path.write_bytes(data)
    check(path)


@each_of("prompts")
def test_kept_file_of_prompts_is_read_or_refused(directory: Path, data: bytes) -> None:
    for suffix in (".txt", ".csv", ".jsonl"):
        path = directory / f"kept{suffix}"
        path.write_bytes(data)
        check(path)


@fuzzed
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=3))
def test_any_prompts_are_read_or_refused(prompts: list[str]) -> None:
    pairs = [text for prompt in prompts for text in ("--prompt", prompt)]
    done = run("generate", *pairs, "--model", "veo-3", MODELMAX_API_KEY="")

    assert 2 == done.exit_code
    assert done.stderr.startswith("Error: ")


@fuzzed
@given(st.sampled_from([*COLUMNS, "x"]), st.text(max_size=9))
def test_any_parameter_is_read_or_refused(name: str, value: str) -> None:
    done = run(
        "submit", "A reef", "-P", f"{name}={value}", "--model", "veo-3", MODELMAX_API_KEY=""
    )

    assert 2 == done.exit_code
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr

"""The prompts of the command line: files, arguments, their checks and their keys."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from modelmax_async import VideoParameters, VideoRequest
from modelmax_async._cli.formats import COLUMNS
from modelmax_async._cli.keys import Keys, digest_of
from modelmax_async._cli.requests import RequestError, Requests
from modelmax_async._cli.sources import Arguments, File, is_file_argument

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def read(path: Path, model: str | None = "veo-3", **parameters: Any) -> list[VideoRequest]:
    """Return the requests of a file, read twice, as a command does."""
    file = File(str(path))
    try:
        requests = Requests([file], model, parameters)
        count, found = requests.check(), list(requests)
    finally:
        file.close()

    assert len(found) == count
    return found


def written(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path, model: str | None = "veo-3") -> str:
    with pytest.raises(RequestError) as caught:
        read(path, model)
    return str(caught.value).removeprefix(f"{path}, ")


def test_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    content = "\ufeffA reef\r\n\n# a comment\n  Rain on a roof  \n#another\n"
    found = read(written(tmp_path, "prompts.txt", content))

    assert ["A reef", "Rain on a roof"] == [request.prompt for request in found]
    assert ["veo-3"] * 2 == [request.model for request in found]


def test_csv_file_sets_parameters(tmp_path: Path) -> None:
    content = (
        "\ufeffprompt,model,key,duration_seconds,generate_audio,resolution\r\n"
        '"A reef,\nin two lines",veo-4,row-1,8,TRUE,\r\n'
        ",,,,,\r\n"
        "Rain,,,,no,720p\r\n"
    )
    first, second = read(written(tmp_path, "prompts.CSV", content))

    assert (
        VideoRequest(
            "A reef,\nin two lines",
            "veo-4",
            VideoParameters(duration_seconds=8, generate_audio=True),
            "row-1",
        )
        == first
    )
    assert VideoParameters(generate_audio=False, resolution="720p") == second.parameters
    assert "veo-3" == second.model


def test_json_lines_file_has_objects_and_strings(tmp_path: Path) -> None:
    rows = [
        '{"prompt": "A reef", "sample_count": 2, "key": null, "extra": {"seed": 7}}',
        '"Rain"',
    ]
    first, second = read(written(tmp_path, "prompts.jsonl", "\n\n".join(rows)))

    assert VideoParameters(sample_count=2, extra={"seed": 7}) == first.parameters
    assert ("Rain", None) == (second.prompt, second.parameters)


def test_image_is_relative_to_its_file(tmp_path: Path) -> None:
    written(tmp_path, "first.png", PNG)
    (found,) = read(written(tmp_path, "prompts.csv", "prompt,image\nA reef,first.png\n"))

    assert VideoParameters(image=tmp_path / "first.png") == found.parameters


def test_parameter_of_the_command_is_that_of_rows_without_it(tmp_path: Path) -> None:
    path = written(tmp_path, "prompts.csv", "prompt,resolution\nA reef,720p\nRain,\n")
    found = read(path, resolution="1080p", sample_count=1)

    assert [
        VideoParameters(resolution="720p", sample_count=1),
        VideoParameters(resolution="1080p", sample_count=1),
    ] == [request.parameters for request in found]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", b"A reef\n\xff\n", "line 2: not UTF-8 text: invalid start byte"),
        (
            "p.csv",
            "prompt,seed\nA reef,7\n",
            f"line 1: unknown column 'seed'; allowed: {', '.join(COLUMNS)}",
        ),
        ("p.csv", "key\nA reef\n", "line 1: the header must have the column prompt, and each"),
        (
            "p.csv",
            "prompt,prompt\na,b\n",
            "line 1: the header must have the column prompt, and",
        ),
        ("p.csv", "prompt\nA reef,7\n", "line 2: 2 cells, but the header has 1 columns"),
        ("p.csv", 'prompt\n"a\nb"\n"c"d\n', "line 4: not CSV: "),
        (
            "p.csv",
            "prompt,duration_seconds\na,8\nb,long\n",
            "line 3: duration_seconds must be an integer, got 'long'",
        ),
        (
            "p.csv",
            "prompt,generate_audio\na,maybe\n",
            "line 2: generate_audio must be true or false, got 'maybe'",
        ),
        (
            "p.csv",
            "prompt,duration_seconds\na,9\n",
            "line 2: duration_seconds must be an integer from 1 to 8, got 9",
        ),
        ("p.csv", "prompt,key\n,row-1\n", "line 2: prompt must be a non-empty string"),
        ("p.csv", "prompt,image\na,no.png\n", "line 2: image must be the path of a file, and"),
        ("p.jsonl", '"a"\n{"prompt"\n', "line 2: not JSON: "),
        ("p.jsonl", "7\n", "line 1: must be a JSON object or a JSON string"),
        (
            "p.ndjson",
            '{"prompt": "a", "seed": 7}',
            "line 1: unknown key 'seed'; allowed: prompt",
        ),
        (
            "p.jsonl",
            '{"prompt": "a", "image": 7}',
            "line 1: image must be the path of a file, got",
        ),
        (
            "p.jsonl",
            '{"prompt": "a", "extra": {"seed": NaN}}',
            "line 1: the parameters cannot be sent as JSON: ",
        ),
        (
            "p.csv",
            "prompt,key\nA reef,k\nA reef,k\nRain,k\n",
            "line 4: the key 'k' is already the key of another request",
        ),
    ],
)
def test_bad_row_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    assert refused(written(tmp_path, name, content)).startswith(message)


def test_row_without_a_model_is_refused(tmp_path: Path) -> None:
    message = refused(written(tmp_path, "p.csv", "prompt,model\na,veo-3\nb,\n"), model=None)

    assert "line 3: no model: pass --model, or set it in the row" == message


def test_image_of_another_kind_is_refused_with_its_line(tmp_path: Path) -> None:
    written(tmp_path, "notes.png", b"plain text")
    message = refused(written(tmp_path, "p.csv", "prompt,image\na,notes.png\n"))

    assert message.startswith("line 2: image must be a PNG, JPEG or WebP")


def test_inserted_line_changes_no_other_key(tmp_path: Path) -> None:
    before = read(written(tmp_path, "p.txt", "A reef\nRain\nA reef\n"))
    after = read(written(tmp_path, "p.txt", "# new\nWaves\nA reef\nRain\nA reef\n"))
    keys = [request.key for request in before]

    assert 3 == len(set(keys))
    assert keys == [request.key for request in after][1:]
    assert [f"{digest_of(before[0])}-1", f"{digest_of(before[0])}-2"] == [keys[0], keys[2]]


def test_key_is_a_digest_of_canonical_json() -> None:
    request = VideoRequest("A reef", "veo-3", VideoParameters(resolution="720p"))
    same = VideoRequest("A reef", "veo-3", VideoParameters(extra={"resolution": "720p"}))
    key = Keys().next(digest_of(request))

    text = b'["veo-3","A reef",{"resolution":"720p"}]'

    assert f"{hashlib.sha256(text).hexdigest()[:16]}-1" == key
    assert digest_of(same) == digest_of(request)


def test_key_follows_the_content_of_an_image(tmp_path: Path) -> None:
    """A moved image is the same request, an edited one is not."""
    one, other = written(tmp_path, "one.png", PNG), written(tmp_path, "other.png", PNG)
    digests = [
        digest_of(VideoRequest("a", "veo-3", VideoParameters(image=path)))
        for path in (one, other)
    ]
    one.write_bytes(PNG + b"edited")
    edited = digest_of(VideoRequest("a", "veo-3", VideoParameters(image=one)))

    assert digests[0] == digests[1]
    assert edited != digests[0]


def test_arguments_have_keys_as_lines_of_a_file_do(tmp_path: Path) -> None:
    arguments = list(Requests([Arguments(["A reef", "Rain"])], "veo-3"))

    assert read(written(tmp_path, "p.txt", "A reef\nRain\n")) == arguments


def test_bad_argument_is_refused_with_its_number() -> None:
    with pytest.raises(RequestError, match=r"^prompt 2: prompt must be a non-empty string$"):
        Requests([Arguments(["A reef", " "])], "veo-3").check()


def test_pipe_can_be_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"A reef\nRain\n",))
    writer.start()
    found = read(path)
    writer.join()

    assert ["A reef", "Rain"] == [request.prompt for request in found]


def test_replaced_file_is_read_as_it_was_checked(tmp_path: Path) -> None:
    path = written(tmp_path, "p.txt", "A reef\n")
    file = File(str(path))
    requests = Requests([file], "veo-3")
    requests.check()
    written(tmp_path, "new", "Rain\n").replace(path)
    found = [request.prompt for request in requests]
    file.close()

    assert ["A reef"] == found


@pytest.mark.anyio
async def test_stream_yields_every_request_in_order(tmp_path: Path) -> None:
    lines = [json.dumps(f"Scene {number}") for number in range(1000)]
    file = File(str(written(tmp_path, "p.jsonl", "\n".join(lines))))
    stream = Requests([file], "veo-3").stream()
    first = await anext(stream)
    rest = [request.prompt async for request in stream]
    file.close()

    assert "Scene 0" == first.prompt
    assert [f"Scene {number}" for number in range(1, 1000)] == rest


@pytest.mark.parametrize(
    ("text", "is_file"),
    [
        ("-", True),
        ("promts.txt", True),
        ("my promts.CSV", True),
        ("cat", True),
        ("A paper boat", False),
        ("A cat. " * 1000, False),
    ],
)
def test_mistyped_file_name_is_not_a_prompt(text: str, *, is_file: bool) -> None:
    assert is_file == is_file_argument(text)


def test_existing_file_with_spaces_is_a_file(tmp_path: Path) -> None:
    assert is_file_argument(str(written(tmp_path, "my prompts", "")))

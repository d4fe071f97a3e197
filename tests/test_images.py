"""The image of a submit: base64 text, bytes, or a path that the submit reads."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import PNG, PNG_TEXT, value_or_error, wild_text
from support import on_socket

from modelmax_async import AsyncQueueClient, VideoParameters
from modelmax_async._client.images import load_image
from modelmax_async._models.images import MAX_IMAGE, as_image
from modelmax_async.emulator import Emulator

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 "
GIF = b"GIF89a\x01\x00\x01\x00"
NO_IMAGES = [
    b"",
    GIF,
    b"\x89PNG",
    b"\xff\xd8",
    b"RIFF\x24\x00\x00\x00WAVEfmt ",
    b" " + PNG,
    b"<svg/>",
    base64.b64encode(PNG),
]
each_kind = pytest.mark.parametrize("data", [PNG, JPEG, WEBP], ids=["png", "jpeg", "webp"])
each_other = pytest.mark.parametrize("data", NO_IMAGES)
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@each_kind
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_become_base64_text(data: bytes, kind: Any) -> None:
    assert base64.b64encode(data).decode() == VideoParameters(image=kind(data)).image


@each_kind
def test_base64_text_is_kept(data: bytes) -> None:
    text = base64.b64encode(data).decode()

    assert text == VideoParameters(image=text).image


@pytest.mark.parametrize(
    "text",
    [
        base64.encodebytes(PNG).decode(),
        PNG_TEXT.rstrip("="),
        f"\n  {PNG_TEXT[:20]}\r\n\t{PNG_TEXT[20:]} ",
    ],
    ids=["lines", "no padding", "indented"],
)
def test_lines_and_missing_padding_of_base64_are_tolerated(text: str) -> None:
    assert PNG_TEXT == VideoParameters(image=text).image


@each_other
def test_bytes_of_another_kind_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^image must be a PNG, JPEG or WebP, got bytes"):
        VideoParameters(image=data)


@pytest.mark.parametrize("data", NO_IMAGES[:-1])
def test_base64_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^image must be a PNG, JPEG or WebP, got base64"):
        VideoParameters(image=base64.b64encode(data).decode())


@pytest.mark.parametrize(
    "text",
    [
        "first.png",
        "/srv/images/first.png",
        r"C:\images\first.png",
        "https://example.com/first.png",
        "photos/cat",
        "é",
        "\ud800",
        PNG_TEXT + "=",
        PNG_TEXT + PNG_TEXT,
        "=" + PNG_TEXT,
        PNG_TEXT.replace("+", "-"),
        PNG_TEXT[:41],
    ],
)
def test_text_that_is_no_base64_image_says_how_to_pass_a_file(text: str) -> None:
    with pytest.raises(ValueError, match=r"^image must be .*pathlib\.Path") as caught:
        VideoParameters(image=text)

    assert str(caught.value).encode()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("scheme", ["data:", " DATA:"])
def test_data_url_says_which_part_to_pass(scheme: str) -> None:
    with pytest.raises(ValueError, match="only the base64 after its comma"):
        VideoParameters(image=f"{scheme}image/png;base64,{PNG_TEXT}")


class _OfBytes(os.PathLike[Any]):
    """A path whose text is bytes."""

    def __fspath__(self) -> bytes:
        return b"first.png"


@pytest.mark.parametrize("value", [5, 1.5, True, ["first.png"], object(), _OfBytes()])
def test_image_of_another_type_is_refused_by_name(value: Any) -> None:
    expected = f"^image must be base64 text, bytes or a path, got {type(value).__name__}$"

    with pytest.raises(ValueError, match=expected):
        VideoParameters(image=value)


def test_image_of_the_largest_size_is_accepted() -> None:
    parameters = VideoParameters(image=PNG.ljust(MAX_IMAGE))

    assert isinstance(parameters.image, str)
    assert parameters == attrs.evolve(parameters)


@pytest.mark.parametrize("more", [1, 2, 3])
def test_larger_image_is_refused(more: int) -> None:
    data = PNG.ljust(MAX_IMAGE + more)

    with pytest.raises(ValueError, match=r"^image must be at most 20 MiB, got .* as bytes"):
        VideoParameters(image=data)
    with pytest.raises(ValueError, match=r"^image must be at most 20 MiB, got .* as base64"):
        VideoParameters(image=base64.b64encode(data).decode())


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda rest: PNG[:8] + rest))
def test_any_bytes_are_kept_or_a_value_error(data: bytes) -> None:
    found = value_or_error(lambda: as_image(data), ValueError)

    if isinstance(found, ValueError):
        assert str(found).startswith("image must be ")
    else:
        assert isinstance(found, str)
        assert data == base64.b64decode(found, validate=True)
        assert found == as_image(found)


@given(
    wild_text
    | st.text("AQ+/=\n -", max_size=12)
    | st.text("AQ+/=\n -", max_size=12).map(lambda rest: PNG_TEXT[:12] + rest)
)
def test_any_text_is_base64_of_an_image_or_a_value_error(text: str) -> None:
    found = value_or_error(lambda: as_image(text), ValueError)

    if isinstance(found, ValueError):
        assert str(found).encode().startswith(b"image must be ")
    else:
        assert isinstance(found, str)
        assert "".join(text.split()).rstrip("=")[:-1] in found
        assert found == as_image(found)


@pytest.mark.parametrize("path", [Path("a", "first.png"), PurePosixPath("a/first.png")])
def test_path_is_kept_until_the_submit(path: Any) -> None:
    parameters = VideoParameters(image=path)

    assert Path("a/first.png") == parameters.image
    assert {"image": str(Path("a/first.png"))} == parameters.to_dict()
    assert "first" not in repr(parameters)


@pytest.mark.anyio
@pytest.mark.parametrize("parameters", [None, VideoParameters(), VideoParameters(image=PNG)])
async def test_parameters_without_a_path_are_left_alone(
    parameters: VideoParameters | None,
) -> None:
    assert await load_image(parameters) is parameters


@pytest.mark.anyio
@each_kind
async def test_file_is_read_beside_the_other_parameters(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "first.bin"
    path.write_bytes(data)

    loaded = await load_image(VideoParameters(image=path, sample_count=2, extra={"seed": 5}))

    assert VideoParameters(image=data, sample_count=2, extra={"seed": 5}) == loaded


@pytest.mark.anyio
async def test_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "first.png"
    path.write_bytes(PNG.ljust(MAX_IMAGE))

    loaded = await load_image(VideoParameters(image=path))

    assert VideoParameters(image=path.read_bytes()) == loaded


@pytest.mark.anyio
async def test_relative_path_is_read_from_the_working_directory_of_the_submit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = VideoParameters(image=Path("first.png"))
    (tmp_path / "first.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)

    assert VideoParameters(image=PNG) == await load_image(parameters)


async def _refused(client: AsyncQueueClient, path: Path) -> str:
    """Return the message of the error about a path; it names the path."""
    with pytest.raises(ValueError, match=r"^image must be ") as caught:
        await client.generate("a reef", parameters=VideoParameters(image=path))

    message = str(caught.value)

    assert repr(str(path)) in message
    assert message.encode()
    return message


@pytest.mark.anyio
async def test_unreadable_file_is_refused_before_any_request(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        for path in (tmp_path / "absent.png", Path("a\0b"), Path("\ud800"), Path("x" * 5000)):
            assert "readable PNG, JPEG or WebP file" in await _refused(client, path)

    assert [] == emulator.requests


@pytest.mark.anyio
async def test_file_that_may_not_be_read_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("modelmax_async._client.images.os.open", deny)

    async with on_socket(url) as client:
        assert "Permission denied" in await _refused(client, tmp_path / "secret.png")


@pytest.mark.anyio
@each_other
async def test_file_of_another_kind_is_refused_before_any_request(
    emulator: Emulator, url: str, tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "first.png"
    path.write_bytes(data)

    async with on_socket(url) as client:
        message = await _refused(client, path)

    assert f"image must be a PNG, JPEG or WebP, got a file of another kind: {str(path)!r}" == (
        message
    )
    assert [] == emulator.requests


@pytest.mark.anyio
async def test_larger_file_is_refused_before_any_request(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "first.png"
    path.write_bytes(PNG)
    os.truncate(path, MAX_IMAGE + 1)

    async with on_socket(url) as client:
        message = await _refused(client, path)

    assert "at most 20 MiB" in message
    assert [] == emulator.requests


@pytest.mark.anyio
@needs_fifo
async def test_what_is_no_regular_file_is_refused_without_waiting(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")

    async with on_socket(url) as client:
        for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero"), Path(os.devnull)):
            assert "must be a regular file" in await _refused(client, path)

    assert [] == emulator.requests


@pytest.mark.anyio
@pytest.mark.parametrize("given_as", ["text", "bytes", "path"])
async def test_submit_sends_the_image_as_base64(
    emulator: Emulator, url: str, tmp_path: Path, given_as: str
) -> None:
    path = tmp_path / "first.png"
    path.write_bytes(PNG)
    image: Any = {"text": PNG_TEXT, "bytes": PNG, "path": path}[given_as]

    async with on_socket(url) as client:
        await client.submit("a reef", parameters=VideoParameters(image=image))

    (received,) = emulator.requests

    assert {"image": PNG_TEXT} == json.loads(received.body)["parameters"]


@pytest.mark.anyio
async def test_empty_prompt_is_refused_before_the_image_is_read(
    url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        with pytest.raises(ValueError, match="prompt"):
            await client.submit("", parameters=VideoParameters(image=tmp_path / "absent.png"))

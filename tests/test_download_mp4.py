"""The boxes of an MP4: complete videos, truncated ones, and other bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmax_async._download.mp4 import Boxes
from modelmax_async.emulator import sample_mp4


def box(name: bytes, body: bytes = b"", *, long: bool = False) -> bytes:
    if long:
        return b"\0\0\0\1" + name + (16 + len(body)).to_bytes(8, "big") + body
    return (8 + len(body)).to_bytes(4, "big") + name + body


def boxes_of(data: bytes, step: int | None = None) -> Boxes:
    boxes = Boxes()
    for at in range(0, len(data), step or max(1, len(data))):
        boxes.feed(data[at : at + (step or len(data))], at)
    return boxes


@given(st.integers(1, 100))
def test_sample_is_complete_in_portions_of_any_size(step: int) -> None:
    sample = sample_mp4()
    boxes = boxes_of(sample, step)

    assert boxes.is_mp4
    assert boxes.complete(len(sample), strict=True)


@given(st.data())
def test_truncated_video_is_not_complete(data: st.DataObject) -> None:
    sample = sample_mp4()
    cut = data.draw(st.integers(0, len(sample) - 1))
    boxes = boxes_of(sample[:cut], data.draw(st.integers(1, 999)))

    assert not boxes.complete(cut)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_arbitrary_bytes_raise_nothing(data: bytes, step: int) -> None:
    whole, parts = boxes_of(data), boxes_of(data, step)

    assert whole.complete(len(data)) == parts.complete(len(data))
    assert repr(whole) == repr(parts)


def test_too_many_boxes_are_not_a_video() -> None:
    """Each box takes time on the event loop; a video has a few, or two a second."""
    body = box(b"ftyp") + box(b"mdat") + box(b"free") * 9_998

    assert boxes_of(body).complete(len(body))
    assert not boxes_of(body + box(b"free")).complete(len(body) + 8)


@pytest.mark.parametrize(
    "body",
    [b"<!DOCTYPE html><html>", b'{"error": {"message": "no"}}', b"\x1aE\xdf\xa3webm...."],
)
def test_other_bodies_are_not_an_mp4(body: bytes) -> None:
    boxes = boxes_of(body)

    assert boxes.is_not_mp4
    assert not boxes.is_mp4
    assert not boxes.complete(len(body))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", True),
        (b"{}", True),
        (b"\r\n <!DOCTYPE html>", True),
        (b"\xef\xbb\xbf<?xml", True),
        (b" " * 20 + b"x", True),
        (b"OggS", False),
        (b"\x1aE\xdf\xa3webm", False),
        (b"none", False),
        (bytes(20), False),
        ((0x3C << 24).to_bytes(4, "big") + b"mdat", False),
    ],
)
@pytest.mark.parametrize("step", [1, 100])
def test_text_is_recognised_by_its_first_bytes(
    body: bytes, step: int, *, expected: bool
) -> None:
    assert expected == boxes_of(body, step).is_text


@pytest.mark.parametrize(
    ("body", "expected"), [(b"", True), (bytes(3), True), (bytes(20), True), (b"\0\0\1", False)]
)
def test_zeros_are_blank(body: bytes, *, expected: bool) -> None:
    assert expected == boxes_of(body).is_blank


def test_incomplete_header_is_undecided() -> None:
    boxes = boxes_of(b"\0\0\0\x18ft")

    assert not boxes.is_not_mp4
    assert not boxes.is_mp4


def test_64_bit_sizes_are_read() -> None:
    data = box(b"ftyp", b"isom") + box(b"mdat", b"x" * 9, long=True) + box(b"moov")

    assert boxes_of(data, 3).complete(len(data), strict=True)
    assert not boxes_of(data[:-1], 3).complete(len(data) - 1)


def test_file_without_an_index_is_complete_unless_strict() -> None:
    data = box(b"ftyp") + box(b"mdat", b"x")

    assert boxes_of(data).complete(len(data))
    assert not boxes_of(data).complete(len(data), strict=True)


def test_open_ended_box_is_complete_unless_strict() -> None:
    data = box(b"ftyp") + box(b"moov") + b"\0\0\0\0mdat" + b"x" * 20

    assert boxes_of(data).complete(len(data))
    assert not boxes_of(data).complete(len(data), strict=True)


def test_file_without_media_is_not_complete() -> None:
    data = box(b"ftyp") + box(b"moov")

    assert not boxes_of(data).complete(len(data))


@pytest.mark.parametrize("size", [b"\0\0\0\5", b"\0\0\0\1"])
def test_box_smaller_than_its_header_breaks_the_structure(size: bytes) -> None:
    data = box(b"ftyp") + box(b"mdat") + size + b"free" + b"\0" * 20

    assert not boxes_of(data).complete(len(data))

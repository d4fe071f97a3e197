"""Fuzzing of the boxes of an MP4: the verdict depends on the bytes alone, and comes soon."""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise

import pytest
from corpora import damaged, each_of, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from test_download_mp4 import box

from modelmax_async._download.directory import scan
from modelmax_async._download.mp4 import Boxes
from modelmax_async.emulator import sample_mp4

MIB = 1024 * 1024
_names = st.sampled_from([b"ftyp", b"moov", b"mdat", b"moof", b"free", b"wide", b"\0\0\0\0"])
_sizes = st.sampled_from([0, 1, 2, 7, 8, 9, 15, 16, 17, 2**31, 2**32 - 1]) | st.integers(0, 99)
_short = st.builds(
    lambda size, name, body: size.to_bytes(4, "big") + name + body,
    _sizes,
    _names,
    st.binary(max_size=20),
)
_long = st.builds(
    lambda name, size, body: b"\0\0\0\1" + name + size.to_bytes(8, "big") + body,
    _names,
    _sizes | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]),
    st.binary(max_size=20),
)
_whole = st.builds(
    lambda name, body, long: box(name, body, long=long),
    _names,
    st.binary(max_size=9),
    st.booleans(),
)
files = st.lists(_short | _long | _whole, max_size=8).map(b"".join) | damaged(sample_mp4())
cuts = st.lists(st.integers(0, 300), max_size=12)


def verdict(boxes: Boxes, size: int) -> tuple[object, ...]:
    return (
        boxes.is_mp4,
        boxes.is_not_mp4,
        boxes.is_blank,
        boxes.is_text,
        boxes.complete(size),
        boxes.complete(size, strict=True),
        boxes.next_header,
        repr(boxes),
    )


def fed(data: bytes, cuts: list[int]) -> Boxes:
    """Return the boxes of a file that arrives in pieces."""
    boxes = Boxes()
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(ends):
        boxes.feed(data[start:end], start)
    return boxes


def scanned(data: bytes) -> Boxes:
    """Return the boxes of a file on the disk."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return scan(file.fileno(), len(data))


def check(data: bytes, cuts: list[int]) -> None:
    whole = fed(data, [])

    assert verdict(whole, len(data)) == verdict(fed(data, cuts), len(data))
    assert whole.complete(len(data)) or not whole.complete(len(data), strict=True)
    assert whole.complete(len(data)) == scanned(data).complete(len(data))


@fuzzed
@given(files | st.binary(max_size=99), cuts)
def test_verdict_does_not_depend_on_the_pieces(data: bytes, cuts: list[int]) -> None:
    check(data, cuts)


@each_of("mp4")
def test_kept_file_has_one_verdict(data: bytes) -> None:
    for step in (1, 3, 8, 16):
        check(data, list(range(0, len(data), step)))


@fuzzed
@given(st.integers(1, 200), st.data())
def test_cut_video_is_never_complete(step: int, data: st.DataObject) -> None:
    sample = sample_mp4()
    cut = data.draw(st.integers(0, len(sample) - 1))

    assert not fed(sample[:cut], list(range(0, cut, step))).complete(cut, strict=True)


@pytest.mark.parametrize(
    "unit", [box(b"free"), box(b"mdat"), box(b"free", long=True), b"\0\0\0\0", b"\0\0\0\1"]
)
def test_boxes_without_content_take_no_time(unit: bytes) -> None:
    """A server may send nothing but headers, which the event loop reads."""
    data = box(b"ftyp") + unit * (8 * MIB // len(unit))
    began = time.process_time()
    fed(data, list(range(0, len(data), 65_536)))
    scanned(data)

    assert time.process_time() - began < 1

"""Writeback: a large file is written early, and does not stay in the page cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from download_support import REEF

from modelmax_async._download import writeback
from modelmax_async._download.part_file import lock_part
from modelmax_async._download.part_names import ResumeInfo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this request")

MIB = 1024 * 1024
BLOCK = bytes(2 * MIB)


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the begin and end of every range that the system is asked to drop."""
    seen: list[tuple[int, int]] = []

    def note(number: int, start: int, length: int, advice: int) -> None:
        assert (7, os.POSIX_FADV_DONTNEED) == (number, advice)
        seen.append((start, start + length))

    monkeypatch.setattr(os, "posix_fadvise", note)
    return seen


def in_memory(number: int, at: int) -> bool:
    """Return whether a byte is in the page cache; skip the test if that is unknown."""
    try:
        return os.preadv(number, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError as exc:
        pytest.skip(f"this file system does not tell what is in the page cache: {exc}")


def forgets(number: int) -> bool:
    """Return whether this file system drops written bytes on request."""
    os.pwrite(number, bytes(4096), 0)
    os.fsync(number)
    os.posix_fadvise(number, 0, 4096, os.POSIX_FADV_DONTNEED)
    return not in_memory(number, 0)


def test_written_bytes_except_the_last_leave_the_page_cache(tmp_path: Path) -> None:
    with (tmp_path / "probe").open("wb+") as probe:
        if not forgets(probe.fileno()):
            pytest.skip("this file system drops nothing")
    part = lock_part(tmp_path / REEF)
    assert part is not None
    part.reset(ResumeInfo('"1"', "https://api", None))
    number = part._open()
    for _ in range(20):
        part.append(BLOCK)
    os.fsync(number)
    for _ in range(4):
        part.append(BLOCK)
    part.append(bytes(MIB))  # not a full stride, so that it is not dropped
    size = part.size
    found = [in_memory(number, at) for at in (0, 4 * MIB, size - 1)]
    part.close()

    assert 49 * MIB == size
    assert [False, False, True] == found


@pytest.mark.parametrize("begin", [0, 3 * MIB + 5])
def test_each_full_stride_is_written_and_all_but_the_end_is_dropped(
    begin: int, requested: list[tuple[int, int]]
) -> None:
    for size in range(begin, begin + 60 * MIB, 2 * MIB):
        writeback.write_behind(7, size, size + 2 * MIB)
    expected = []
    for end in range(8 * MIB, begin + 60 * MIB + 1, 8 * MIB):
        expected += [(end - 8 * MIB, end)]
        if end > 32 * MIB:
            expected += [(0, end - 32 * MIB)]

    assert expected == requested


def test_several_strides_are_written_in_one_request(requested: list[tuple[int, int]]) -> None:
    writeback.write_behind(7, 9 * MIB, 50 * MIB)

    assert [(8 * MIB, 48 * MIB), (0, 16 * MIB)] == requested


def test_video_of_common_size_is_not_dropped(requested: list[tuple[int, int]]) -> None:
    for size in range(0, 32 * MIB, 2 * MIB):
        writeback.write_behind(7, size, size + 2 * MIB)

    assert [(start * MIB, start * MIB + 8 * MIB) for start in (0, 8, 16, 24)] == requested


def test_pipe_is_ignored() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            os.posix_fadvise(writing, 0, 1, os.POSIX_FADV_DONTNEED)
        writeback.write_behind(writing, 0, 8 * MIB)
    finally:
        os.close(reading)
        os.close(writing)

"""A large file on its way to the disk: written early, and not kept in memory as a whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from modelmax_async._download import writeback
from modelmax_async._download.names import ResumeInfo
from modelmax_async._download.part_file import lock_part

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked for this")

MIB = 1024 * 1024
BLOCK = bytes(2 * MIB)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the begin and the end of every stretch the system is asked to let go."""
    seen: list[tuple[int, int]] = []

    def note(number: int, start: int, length: int, advice: int) -> None:
        assert (7, os.POSIX_FADV_DONTNEED) == (number, advice)
        seen.append((start, start + length))

    monkeypatch.setattr(os, "posix_fadvise", note)
    return seen


def in_memory(number: int, at: int) -> bool:
    """Whether a read would find the byte in memory; skips the test where none can tell."""
    try:
        return os.preadv(number, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError as exc:
        pytest.skip(f"this file system does not tell what it keeps in memory: {exc}")


def forgets(number: int) -> bool:
    """Whether this file system drops what is on the disk when it is asked to."""
    os.pwrite(number, bytes(4096), 0)
    os.fsync(number)
    os.posix_fadvise(number, 0, 4096, os.POSIX_FADV_DONTNEED)
    return not in_memory(number, 0)


def test_what_the_disk_has_leaves_memory_but_for_the_end(tmp_path: Path) -> None:
    with (tmp_path / "probe").open("wb+") as probe:
        if not forgets(probe.fileno()):
            pytest.skip("this file system keeps all in memory")
    part = lock_part(tmp_path / "reef-0.mp4")
    assert part is not None
    part.reset(ResumeInfo('"1"', "https://api", None))
    number = part._open()
    for _ in range(20):
        part.append(BLOCK)
    os.fsync(number)
    for _ in range(4):
        part.append(BLOCK)
    part.append(
        bytes(MIB)
    )  # no whole stretch, and so not asked for: a quick disk may have more
    size = part.size
    found = [in_memory(number, at) for at in (0, 4 * MIB, size - 1)]
    part.close()

    assert 49 * MIB == size
    assert [False, False, True] == found


@pytest.mark.parametrize("begin", [0, 3 * MIB + 5])
def test_each_stretch_is_asked_for_once_it_is_full_and_all_but_the_end_is_given_up(
    begin: int, asked: list[tuple[int, int]]
) -> None:
    for size in range(begin, begin + 60 * MIB, 2 * MIB):
        writeback.write_behind(7, size, size + 2 * MIB)
    expected = []
    for end in range(8 * MIB, begin + 60 * MIB + 1, 8 * MIB):
        expected += [(end - 8 * MIB, end)]
        if end > 32 * MIB:
            expected += [(0, end - 32 * MIB)]

    assert expected == asked


def test_a_file_that_leaps_ahead_is_asked_for_as_a_whole(asked: list[tuple[int, int]]) -> None:
    writeback.write_behind(7, 9 * MIB, 50 * MIB)

    assert [(8 * MIB, 48 * MIB), (0, 16 * MIB)] == asked


def test_a_video_of_common_size_is_not_given_up(asked: list[tuple[int, int]]) -> None:
    for size in range(0, 32 * MIB, 2 * MIB):
        writeback.write_behind(7, size, size + 2 * MIB)

    assert [(start * MIB, start * MIB + 8 * MIB) for start in (0, 8, 16, 24)] == asked


def test_what_is_no_file_of_a_disk_is_let_be() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            os.posix_fadvise(writing, 0, 1, os.POSIX_FADV_DONTNEED)
        writeback.write_behind(writing, 0, 8 * MIB)
    finally:
        os.close(reading)
        os.close(writing)

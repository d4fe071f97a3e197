"""File names: safe on every system, and distinct."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmax_async._download.containers import SUFFIXES
from modelmax_async._download.names import file_name
from modelmax_async._download.part_names import ResumeInfo, part_name

IDS = st.one_of(
    st.text(alphabet="aA/+=-_.0:", max_size=12), st.text(st.characters(), max_size=80)
)


@given(IDS, st.integers(0, 999))
def test_names_are_valid_on_every_system(request_id: str, index: int) -> None:
    name = file_name(request_id, index)
    suffix = max(SUFFIXES, key=len)
    longest = part_name(name, ResumeInfo("0" * 16, '"' + "x" * 54 + '"', 10**19, suffix))

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[0-9a-f]{32})?-[0-9]+\.mp4", name)
    assert len(longest) <= 255


@given(IDS, IDS, st.integers(0, 20), st.integers(0, 20))
def test_two_videos_never_share_a_name(one: str, two: str, i: int, j: int) -> None:
    same = file_name(one, i).lower() == file_name(two, j).lower()

    assert ((one, i) == (two, j)) == same


def test_plain_id_is_used_as_it_is() -> None:
    assert "reef-7-1.mp4" == file_name("reef-7", 1)
    assert file_name("../../etc/passwd", 0).startswith("etc_passwd.")
    assert file_name("...", 0).startswith("video.")
    assert file_name("aa", 0) != file_name("AA", 0).lower()


@pytest.mark.parametrize("index", [-1, True, "0", 10**6])
def test_impossible_index_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="index of a video"):
        file_name("a", index)

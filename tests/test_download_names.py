"""File names: safe on every system, distinct, and read back with resume info."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmax_async._download.containers import SUFFIXES
from modelmax_async._download.names import (
    ResumeInfo,
    file_name,
    is_part,
    part_name,
    read_resume_info,
    source_digest,
)

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


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"')),
    st.none() | st.integers(1, 2**63),
    st.none() | st.sampled_from(SUFFIXES),
)
def test_resume_info_round_trips_through_a_name(
    tag: str, total: int | None, suffix: str | None
) -> None:
    resume_info = ResumeInfo(source_digest("https://h/v?a"), f'"{tag[:54]}"', total, suffix)
    name = part_name("a-0.mp4", resume_info)

    assert resume_info == read_resume_info("a-0.mp4", name)
    assert is_part("a-0.mp4", name)


@pytest.mark.parametrize(
    "entry", ["a-0.mp4", "a-0.mp4.part.x", "a-0.mp4.note.part", "b-0.mp4.part", "a-0.mp4."]
)
def test_other_file_is_not_a_part(entry: str) -> None:
    assert not is_part("a-0.mp4", entry)


def test_part_without_resume_info_is_recognised() -> None:
    assert is_part("a-0.mp4", part_name("a-0.mp4", None))


def test_validator_with_control_characters_is_refused() -> None:
    smuggled = b'"x"\r\nhost: evil'.hex()

    assert read_resume_info("a-0.mp4", f"a-0.mp4.{'0' * 16}-5-{smuggled}.part") is None


def test_unknown_suffix_in_resume_info_is_refused() -> None:
    resume_info = ResumeInfo("0" * 16, '"a"', 5, "webm")
    name = part_name("a-0.mp4", resume_info)

    assert resume_info == read_resume_info("a-0.mp4", name)
    assert read_resume_info("a-0.mp4", name.replace("-webm", "-exe")) is None


def test_query_does_not_change_the_source_digest() -> None:
    assert source_digest("https://h/v?sig=1") == source_digest("https://h/v?sig=2")
    assert source_digest("https://h/v") != source_digest("https://h/w")

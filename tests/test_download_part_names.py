"""Names of ``.part`` files: read back with their resume info."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmax_async._download.containers import SUFFIXES
from modelmax_async._download.part_names import (
    ResumeInfo,
    is_part,
    part_name,
    read_resume_info,
    source_digest,
)


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

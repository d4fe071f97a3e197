"""File names: readable, safe on every system, and never shared by two jobs."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from download_support import DIGEST
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import value_or_error

from modelmax_async._download.containers import SUFFIXES
from modelmax_async._download.names import NameTemplate
from modelmax_async._download.part_names import LONGEST_VALIDATOR, ResumeInfo, part_name
from modelmax_async._download.slugs import is_reserved
from modelmax_async._download.template import field_names

DEFAULT = "{key}-{digest}-{index}.{suffix}"
LONGEST_INFO = ResumeInfo("0" * 16, "x" * LONGEST_VALIDATOR, 10**20 - 1, max(SUFFIXES, key=len))

Video = tuple[str | None, str, str, int]  # key, request id, model, index

awkward = st.text(st.characters(exclude_categories=()), max_size=80)
words = st.text(alphabet="aA1kK-_/.é", max_size=6)
ids = st.one_of(words, awkward, st.sampled_from(["con", "x-1", "x" * 1024]))
videos = st.tuples(st.none() | ids, ids, ids, st.integers(0, 20) | st.just(999_999))
fields = ["{key}", "{id}", "{digest}", "{index}", "{index:03}", "{model}"]
literals = st.sampled_from(
    ["-", "_", "1", " ", ".", "+", "con", "com", "é", "\u212a", "{{", "é" * 12]
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@st.composite
def templates(draw: st.DrawFn) -> NameTemplate:
    """Draw a template: few of a text's parts are wrong."""
    parts = draw(st.lists(st.sampled_from(fields) | literals, max_size=6))
    parts.insert(draw(st.integers(0, len(parts))), draw(st.sampled_from(["{key}", "{id}"])))
    try:
        return NameTemplate.parse("".join([*parts, draw(st.sampled_from(["", ".{suffix}"]))]))
    except ValueError:
        assume(False)  # noqa: FBT003 - the signature of Hypothesis
        raise


def name_of(template: NameTemplate, video: Video) -> str:
    key, request_id, model, index = video
    return template.file_name(request_id=request_id, key=key, model=model, index=index)


def named(
    text: str,
    key: str | None = None,
    request_id: str = "reef",
    model: str = "veo-3",
    index: int = 0,
) -> str:
    return name_of(NameTemplate.parse(text), (key, request_id, model, index))


def identity(template: NameTemplate, video: Video) -> object:
    """Return what tells a video apart in a template: without an id, a key names one job."""
    key, request_id, _, index = video
    fields = field_names(template.parts)
    if template.has_digest or "key" not in fields:
        return request_id, index
    if "id" in fields or key is None:
        return key, request_id, index
    return key, index


@given(templates(), videos)
def test_names_are_valid_on_every_system(template: NameTemplate, video: Video) -> None:
    name = name_of(template, video)

    assert re.fullmatch(r'(?!\.)[^/\\:*?"<>|\x00-\x1f]*(?<![. ])\.mp4', name)
    assert len(part_name(name, LONGEST_INFO).encode()) <= 255
    assert not is_reserved(name)
    assert f"{name.removesuffix('.mp4')}.webm" == Path(name).with_suffix(".webm").name


@given(st.text(alphabet="{}keyid.suffix!:0 -/", max_size=20) | awkward)
def test_any_text_is_a_template_or_a_value_error(text: str) -> None:
    found = value_or_error(lambda: NameTemplate.parse(text), ValueError)

    assert isinstance(found, NameTemplate) or str(found).startswith("name must ")


@given(templates(), videos, videos)
def test_two_videos_never_share_a_name(template: NameTemplate, one: Video, two: Video) -> None:
    """Not even where ``A`` and ``a`` name the same file."""
    same = name_of(template, one).casefold() == name_of(template, two).casefold()

    assert not same or identity(template, one) == identity(template, two)


@pytest.mark.parametrize(
    ("text", "one", "two"),
    [
        ("{key}", ("row-17", "x", "m", 0), ("row", "x", "m", 17)),
        ("{key}", ("x", "y", "m", 0), (None, "x", "m", 0)),
        ("{key}", ("X y", "y", "m", 0), (None, "X y", "m", 0)),
        ("{key}", ("A", "x", "m", 0), ("a", "x", "m", 0)),
        ("{key}", (f"a-{sha('A')[:16]}", "x", "m", 0), ("A", "x", "m", 0)),
        ("{key}{index}", ("a1", "x", "m", 0), ("a", "x", "m", 10)),
        ("{key}1{index}", ("a1", "x", "m", 1), ("a", "x", "m", 11)),
        ("{index}{key}", ("1a", "x", "m", 1), ("a", "x", "m", 11)),
        ("{index}1{key}", ("1a", "x", "m", 1), ("a", "x", "m", 11)),
        ("{key}-{id}", ("a-b", "c", "m", 0), ("a", "b-c", "m", 0)),
        ("{key}-{model}-{id}", ("a-b", "d", "c", 0), ("a", "c-d", "b", 0)),
        ("{model}-{key}", ("1", "x", "veo-3-fast", 0), ("fast-1", "x", "veo-3", 0)),
        ("{model}_{key}", ("b_c", "x", "a", 0), ("c", "x", "a_b", 0)),
        ("{key}_{model}", ("a_b", "x", "c", 0), ("a", "x", "b_c", 0)),
        ("{key}\u212a{id}", ("ak", "b", "m", 0), ("a", "kb", "m", 0)),
    ],
)
def test_templates_cannot_be_read_in_two_ways(text: str, one: Video, two: Video) -> None:
    template = NameTemplate.parse(text)

    assert name_of(template, one).casefold() != name_of(template, two).casefold()


@pytest.mark.parametrize("text", ["日本 4K", "x" * 30 + "17" + "x" * 30, "🎬"])
def test_key_that_loses_letters_is_told_apart_by_its_own_digest(text: str) -> None:
    """The digest of the id alone is too short for 100,000 keys with one slug."""
    name = named(DEFAULT, text)

    assert name.endswith(f"-{sha(text)[:8]}-{DIGEST}-0.mp4")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, f"reef-{DIGEST}-1.mp4"),
        ("row-17", f"row-17-{DIGEST}-1.mp4"),
        ("Scene 12, take 3", f"Scene_12_take_3-{DIGEST}-1.mp4"),
        ("../etc/passwd", f"etc_passwd-{DIGEST}-1.mp4"),
        ("v1.5", f"v1_5-{DIGEST}-1.mp4"),
        ("NUL", f"NUL-{DIGEST}-1.mp4"),
    ],
)
def test_default_name_shows_key_digest_and_index(key: str | None, expected: str) -> None:
    assert expected == named(DEFAULT, key, index=1)


def test_end_of_a_long_id_is_shown() -> None:
    """Ids may be the base64 of a path whose beginning is the same for every job."""
    path = b"projects/modelmax/locations/us-central1/operations/"
    one, two = (base64.b64encode(path + end).decode() for end in (b"1f3a-22", b"9e0c-71"))

    assert f"{one.rstrip('=')[-40:]}-{sha(one)[:8]}-0.mp4" == named(DEFAULT, request_id=one)
    assert named("{id} {digest}", request_id=one)[:40] != named("{id}", request_id=two)[:40]


def test_beginning_and_end_of_a_long_key_are_shown() -> None:
    key = "campaign/2026/autumn scene 000123 of the reef film, final cut"

    slug = "campaign_2026_autum_reef_film_final_cut"

    assert f"{slug}-{sha(key)[:16]}.mp4" == named("{key}", key)


def test_slugs_are_cut_shorter_in_a_longer_template() -> None:
    key = "a" * 20 + "b" * 20

    assert f"{key}.mp4" == named("{key}", key)
    assert f"{'x' * 52}aaaaa_bbbbbb-{sha(key)[:16]}.mp4" == named("x" * 52 + "{key}", key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{key}", "row-17.1.mp4"),
        ("{key}.{suffix}", "row-17.1.mp4"),
        ("{id}_{index}", "reef_1.mp4"),
        ("{index:03}-{key}.{suffix}", "001-row-17.mp4"),
        ("{key} {index:d}", "row-17 1.mp4"),
        ("{digest}{id}", f"{DIGEST}reef.1.mp4"),
        ("{model}-{key}-{index}.{suffix}", "veo_3-row-17-1.mp4"),
        ("Film é {{{key}}} #{index}", "Film é {row-17} #1.mp4"),
        ("{key}-{id}", f"row-17-{sha('row-17')[:16]}-reef-{sha('reef')[:16]}.1.mp4"),
        ("{key} {id}", "row-17 reef.1.mp4"),
        ("{key}{index}", f"row-17-{sha('row-17')[:16]}1.mp4"),
        (
            "{key}\u200c{id}",  # some file systems ignore this character
            f"row-17-{sha('row-17')[:16]}\u200creef-{sha('reef')[:16]}.1.mp4",
        ),
        ("con.{key}.{index}", "_con.row-17.1.mp4"),
    ],
)
def test_template_is_filled_in(text: str, expected: str) -> None:
    assert expected == named(text, "row-17", index=1)


@pytest.mark.parametrize("key", ["Row", "row 17", "con", "lpt1", "a-", "é", "r" * 41])
def test_key_that_is_no_plain_slug_is_followed_by_its_digest(key: str) -> None:
    expected = re.compile(rf"[A-Za-z0-9_-]+-{sha(key)[:16]}\.mp4")

    assert expected.fullmatch(named("{key}", key))
    assert expected.fullmatch(named("{id}", request_id=key))


def test_id_in_place_of_a_key_is_followed_by_its_digest() -> None:
    assert f"reef-{sha('reef')[-16:]}.mp4" == named("{key}")
    assert "reef.mp4" == named("{id}")


def test_model_without_letters_is_called_video() -> None:
    assert "video reef.mp4" == named("{model} {id}", model="")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (5, "a string or None, got int"),
        ("", "contain {key} or {id}, so that no two jobs share a file"),
        ("{model}-{digest}-{index}", "contain {key} or {id}"),
        ("{id}-{id}", "each field only once"),
        ("{id", "be a template with the fields {key}, {id}, "),
        ("{id}}", "be a template"),
        ("{}", "use only the fields {key}, {id}, {digest}, {index}, {model}, {suffix}"),
        ("{0}", "use only the fields"),
        ("{key.real}", "use only the fields"),
        ("{key[0]}", "use only the fields"),
        ("{path}", "use only the fields"),
        ("{id!r}", "only {index} may have a format, such as {index:03}"),
        ("{id:40}", "only {index} may have a format"),
        ("{id}{index:x}", "only {index} may have a format"),
        ("{id}{index:3}", "only {index} may have a format"),
        ("{id}{index:{key}}", "only {index} may have a format"),
        ("{id}{suffix}", "a dot before {suffix}"),
        ("{suffix}", "a dot before {suffix}"),
        ("{id}-{suffix}", "a dot before {suffix}"),
        ("{suffix}-{id}", "{suffix} only at its end"),
        ("{id}.{suffix}.{suffix}", "{suffix} only at its end"),
        ("{id}.mp4", "end in .{suffix} instead of .mp4"),
        ("{id}.WebM.{suffix}", "end in .{suffix} instead of .WebM"),
        ("a/{id}", "not contain a slash"),
        ("a\\{id}", "not contain a slash"),
        ("{id}?", "not contain a slash"),
        ("{id}\n", "not contain a slash"),
        ("\ud800{id}", "not contain a slash"),
        (".{id}", "not start with a dot"),
        ("{id} ", "not have a space or dot before the suffix"),
        ("{id}..{suffix}", "not have a space or dot before the suffix"),
        ("x" * 53 + "{id}", "have at most 52 bytes of literal text (UTF-8) beside its fields"),
        ("é" * 27 + "{id}", "have at most 52 bytes"),
        ("x" * 50 + "{id}{index:09}", "have at most 49 bytes"),
    ],
)
def test_text_that_is_no_template_is_refused(text: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"name must .*{re.escape(problem)}"):
        NameTemplate.parse(text)


@pytest.mark.parametrize("index", [-1, True, "0", 10**6])
def test_impossible_index_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="index of a video"):
        named("{id}", index=index)

"""Fuzzing: the inputs that are kept, and how valid ones are damaged.

A file in ``tests/corpus/<target>/`` is one hostile input. Each is tested in every run, as
Hypothesis's own database of failures is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

_CORPUS = Path(__file__).parent / "corpus"
_examples = settings().max_examples  # of the profile: 60 unless it is that for fuzzing
#: Decorates a fuzz test: few examples in the suite, and those of the profile ``fuzz``.
fuzzed = settings(deadline=None, max_examples=_examples if _examples > 100 else 50)


def each_of(target: str) -> Callable[[Any], Any]:
    """Run a test once for every kept input of a target, as the argument ``data``."""
    files = sorted((_CORPUS / target).iterdir())
    return pytest.mark.parametrize(
        "data", [pytest.param(file.read_bytes(), id=file.name) for file in files]
    )


def kept(target: str, name: str) -> bytes:
    """Return one kept input."""
    return (_CORPUS / target / name).read_bytes()


@st.composite
def damaged(draw: st.DrawFn, *valid: bytes) -> bytes:
    """Draw a valid input with a few bytes removed, inserted or repeated."""
    data = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        middle = draw(
            st.binary(max_size=6)
            | st.sampled_from([b"[", b"{", b'"', b",", b"\\u202e", b"\xff", b"null", b"1e999"])
            | st.just(data[start:end] * 2)
        )
        data = data[:start] + middle + data[end:]
    return data

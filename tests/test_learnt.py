"""The record of what was learnt about a model: small, additive, and checked when it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelmax_async._polling.durations import PIECES, Durations
from modelmax_async._polling.learnt import Learnt, added
from modelmax_async._polling.observation import Basis


def some(jobs: int = 1) -> Learnt:
    learnt = Learnt()
    for _ in range(jobs):
        learnt.alive(Basis.FOUND, 0.0, 30.0)
        learnt.ended(Basis.FOUND, 30.0, 32.0)
        learnt.ended(Basis.STARTED, 10.0, 11.0)
    return learnt


def test_record_is_read_as_it_was_written() -> None:
    record = some().to_bytes()

    assert record == Learnt.from_bytes(record).to_bytes()
    assert {"found", "started"} == set(json.loads(record))


def test_record_of_every_basis_full_to_the_brim_has_a_few_kilobytes() -> None:
    full = Durations([98.7654] * PIECES, [123456.789] * PIECES)
    record = Learnt(dict.fromkeys(Basis, full)).to_bytes()

    assert len(record) < 8_000


def test_usual_record_has_about_a_kilobyte() -> None:
    assert len(some(500).to_bytes()) < 1500


def test_record_without_a_predecessor_is_what_was_learnt() -> None:
    assert some().to_bytes() == added(None, some())


def test_records_add_up() -> None:
    both = Learnt.from_bytes(added(added(None, some(2)), some(3)))

    assert 5 == pytest.approx(sum(both.get(Basis.FOUND).ends), rel=0.05)
    assert 5 == pytest.approx(sum(both.get(Basis.STARTED).ends), rel=0.05)
    assert 0 == sum(both.get(Basis.SUBMITTED).ends)


def test_basis_of_a_later_version_is_left_out() -> None:
    record = json.loads(some().to_bytes()) | {"by_moonlight": "?"}

    assert some().to_bytes() == Learnt.from_bytes(json.dumps(record).encode()).to_bytes()


DAMAGED: list[Any] = [
    b"",
    b"\xff",
    b"null",
    b"[]",
    b"5",
    b'"found"',
    b"{",
    b"[" * 100_000,
    b'{"found": 5}',
    b"[" + b" " * 70_000 + b"]",
    b'{"found": [[], [NaN]]}',
    b'{"found": [[1e99], []]}',
    None,
    5,
]


@pytest.mark.parametrize("record", DAMAGED, ids=lambda record: repr(record)[:20])
def test_damaged_record_is_a_value_error(record: Any) -> None:
    with pytest.raises(ValueError, match="not "):
        Learnt.from_bytes(record)


@pytest.mark.parametrize("record", DAMAGED, ids=lambda record: repr(record)[:20])
def test_damaged_record_is_replaced(record: Any) -> None:
    assert some().to_bytes() == added(record, some())

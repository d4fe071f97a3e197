"""What is learnt about durations: sums over pieces of age, in any order, that fade slowly."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelmax_async._polling.durations import (
    ENDS,
    FORGETTING,
    LENGTHS,
    PIECES,
    STARTS,
    Durations,
    piece_at,
)

ages = st.floats(0, 20_000)
intervals = st.tuples(ages, st.floats(0, 300)).map(lambda pair: (pair[0], sum(pair)))
facts = st.lists(st.tuples(st.booleans(), intervals), max_size=12)
Facts = list[tuple[bool, tuple[float, float]]]


def learnt(told: Facts, forgetting: float = 0.0) -> Durations:
    durations = Durations(forgetting=forgetting)
    for ended, (start, end) in told:
        (durations.ended if ended else durations.alive)(start, end)
    return durations


def close(one: Durations, other: Durations) -> bool:
    pairs = zip(one.ends + one.seconds, other.ends + other.seconds, strict=True)
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in pairs)


@given(ages)
def test_every_age_is_in_the_piece_that_it_is_looked_up_in(age: float) -> None:
    k = piece_at(age)

    assert STARTS[k] <= age < ENDS[k]


@pytest.mark.parametrize("k", range(PIECES))
def test_piece_begins_at_its_start(k: int) -> None:
    assert k == piece_at(STARTS[k])
    assert k == piece_at(math.nextafter(ENDS[k], 0) if ENDS[k] < math.inf else 1e300)


@given(intervals)
def test_job_that_was_alive_adds_its_seconds(interval: tuple[float, float]) -> None:
    durations = learnt([(False, interval)])

    assert math.isclose(interval[1] - interval[0], sum(durations.seconds), abs_tol=1e-9)
    assert 0 == sum(durations.ends)


@given(intervals)
def test_job_that_ended_adds_one_end_and_at_most_its_seconds(
    interval: tuple[float, float],
) -> None:
    start, end = interval
    durations = learnt([(True, interval)])

    assert math.isclose(1.0, sum(durations.ends))
    assert -1e-9 <= sum(durations.seconds) <= end - start + 1e-9
    assert all(
        ENDS[k] >= start and STARTS[k] <= end for k in range(PIECES) if durations.ends[k] > 0
    )


@pytest.mark.parametrize(
    ("interval", "age", "share"),
    [((0.0, 8.0), 4.0, 2**-7), ((60.0, 68.0), 64.0, 0.4), ((0.0, 1e300), 1e299, 0.0)],
)
def test_most_of_an_end_is_shared_over_the_latest_pieces(
    interval: tuple[float, float], age: float, share: float
) -> None:
    durations = learnt([(True, interval)])

    assert share == pytest.approx(sum(durations.ends[: piece_at(age)]), abs=0.02)


@given(facts, st.randoms())
def test_order_of_observations_does_not_matter(told: Facts, shuffled: Any) -> None:
    again = told.copy()
    shuffled.shuffle(again)

    assert close(learnt(told), learnt(again))


@given(facts, facts)
def test_sums_of_two_processes_are_those_of_one(mine: Facts, theirs: Facts) -> None:
    assert close(learnt(mine + theirs), learnt(mine).plus(learnt(theirs)))


@given(facts, facts)
def test_observations_of_other_jobs_make_none_fade(mine: Facts, theirs: Facts) -> None:
    one, other = learnt(mine, FORGETTING), learnt(theirs, FORGETTING)
    both = one.beside(other)

    assert [a + b for a, b in zip(one.ends, other.ends, strict=True)] == both.ends
    assert [a + b for a, b in zip(one.seconds, other.seconds, strict=True)] == both.seconds


@given(facts, facts, facts)
def test_adding_is_associative(a: Facts, b: Facts, c: Facts) -> None:
    one, two, three = learnt(a), learnt(b), learnt(c)

    assert close(one.plus(two).plus(three), one.plus(two.plus(three)))


@given(facts, facts)
def test_adding_changes_neither_part(mine: Facts, theirs: Facts) -> None:
    one, other = learnt(mine), learnt(theirs)
    one.plus(other)

    assert (learnt(mine), learnt(theirs)) == (one, other)


def test_each_job_takes_one_percent_off_what_a_piece_holds() -> None:
    k = piece_at(50.0)
    durations = learnt([(True, (50.0, 50.0))], FORGETTING)

    for _ in range(100):
        durations.alive(STARTS[k], ENDS[k])

    assert 0.99**100 == pytest.approx(durations.ends[k])


def test_what_another_age_learns_makes_a_piece_forget_nothing() -> None:
    durations = learnt([(True, (50.0, 50.0))], FORGETTING)

    for _ in range(1000):
        durations.alive(0.0, 40.0)

    assert 1.0 == sum(durations.ends)


def test_newer_observations_make_older_ones_fade_by_as_much() -> None:
    old = [(True, (50.0, 50.0))] * 5
    new = [(False, (0.0, 100.0))] * 50
    together = learnt(old + new, FORGETTING)
    apart = learnt(old, FORGETTING).plus(learnt(new, FORGETTING))

    k = piece_at(50.0)
    assert together.ends[k] == pytest.approx(apart.ends[k], rel=0.15)


@given(facts)
def test_list_for_json_keeps_four_digits(told: Facts) -> None:
    durations = learnt(told)
    again = Durations.from_list(durations.to_list())

    pairs = zip(durations.ends + durations.seconds, again.ends + again.seconds, strict=True)
    assert all(math.isclose(a, b, rel_tol=1e-3) for a, b in pairs)


def test_list_has_no_pieces_beyond_the_last_observation() -> None:
    assert [[], [1.0, 0.1]] == learnt([(False, (0, 1.1))]).to_list()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [[]],
        [[], [], []],
        [[1.0], None],
        ["ab", []],
        [[-1.0], []],
        [[], [float("nan")]],
        [[], [float("inf")]],
        [[True], []],
        [[1e9], []],
        [[], [1e9]],
        [["1"], []],
        [[0.0] * (PIECES + 1), []],
    ],
)
def test_list_that_cannot_be_from_here_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="not a"):
        Durations.from_list(data)


@given(intervals)
def test_interval_that_ends_before_it_begins_counts_as_a_moment(
    interval: tuple[float, float],
) -> None:
    """A loop's clock does not go back, but a floating-point subtraction may."""
    start, end = interval
    assume(end > start)
    durations = learnt([(False, (end, start)), (True, (end, start))])

    assert (1.0, 0.0) == (sum(durations.ends), sum(durations.seconds))


def test_lengths_are_those_of_the_pieces() -> None:
    spans = [end - start for start, end in zip(STARTS, ENDS, strict=True)]

    assert spans[:-1] == list(LENGTHS[:-1])
    assert STARTS[-1] == LENGTHS[-1], "the last piece has no end"

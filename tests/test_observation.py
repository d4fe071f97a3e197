"""What one wait observes of its job's age, and what it tells to be learnt."""

from __future__ import annotations

import attrs
import pytest

from modelmax_async import Job
from modelmax_async._polling.observation import Basis, Observation

JOB = Job("veo-3", "reef")
SUBMITTED = attrs.evolve(JOB, submitted_at=1000.0)
Told = list[tuple[str, Basis, float, float]]


class Learner:
    """Notes what is told."""

    def __init__(self) -> None:
        self.told: Told = []

    def alive(self, basis: Basis, start: float, end: float) -> None:
        self.told.append(("alive", basis, start, end))

    def ended(self, basis: Basis, start: float, end: float) -> None:
        self.told.append(("ended", basis, start, end))


def learnt(observation: Observation, *polls: tuple[float, str]) -> Told:
    """Return what polls at these times tell; the status of the last is terminal."""
    learner = Learner()
    for now, status in polls[:-1]:
        observation.seen(now, status, learner.alive)
    observation.ended(polls[-1][0], learner.ended)
    return learner.told


def test_fresh_submit_is_observed_from_its_submit_on() -> None:
    observation = Observation.start(SUBMITTED, 50.0, 1000.0)
    observation.from_the_start()

    assert [
        ("alive", Basis.SUBMITTED, 0.0, 10.0),
        ("alive", Basis.SUBMITTED, 10.0, 15.0),
        ("ended", Basis.SUBMITTED, 15.0, 17.0),
    ] == learnt(observation, (60.0, "IN_PROGRESS"), (65.0, "IN_PROGRESS"), (67.0, "COMPLETED"))


def test_old_submit_is_observed_from_its_first_poll_on() -> None:
    """Jobs that ended before anyone looked are not seen, so that survivors prove nothing."""
    observation = Observation.start(SUBMITTED, 50.0, 1030.0)

    assert [
        ("alive", Basis.SUBMITTED, 30.0, 35.0),
        ("ended", Basis.SUBMITTED, 35.0, 37.0),
    ] == learnt(observation, (50.0, "IN_PROGRESS"), (55.0, "IN_PROGRESS"), (57.0, "FAILED"))


def test_id_from_elsewhere_is_counted_from_its_first_poll() -> None:
    observation = Observation.start(JOB, 50.0, 1000.0)

    assert [
        ("alive", Basis.FOUND, 0.0, 5.0),
        ("ended", Basis.FOUND, 5.0, 7.0),
    ] == learnt(observation, (52.0, "PAUSED"), (57.0, "IN_PROGRESS"), (59.0, "COMPLETED"))


@pytest.mark.parametrize("job", [JOB, SUBMITTED])
def test_job_that_has_ended_at_its_first_poll_teaches_nothing(job: Job) -> None:
    assert [] == learnt(Observation.start(job, 50.0, 1030.0), (51.0, "COMPLETED"))


def test_job_that_leaves_the_queue_is_counted_from_then() -> None:
    observation = Observation.start(SUBMITTED, 0.0, 1000.0)
    observation.from_the_start()

    assert [
        ("alive", Basis.SUBMITTED, 0.0, 4.0),
        ("alive", Basis.SUBMITTED_IN_QUEUE, 4.0, 9.0),
        ("alive", Basis.SUBMITTED_VIA_QUEUE, 4.0, 9.0),
        ("alive", Basis.STARTED, 0.0, 20.0),
        ("alive", Basis.SUBMITTED_VIA_QUEUE, 9.0, 29.0),
        ("ended", Basis.STARTED, 20.0, 22.0),
        ("ended", Basis.SUBMITTED_VIA_QUEUE, 29.0, 31.0),
    ] == learnt(
        observation,
        (4.0, "IN_QUEUE"),
        (9.0, "IN_PROGRESS"),
        (29.0, "IN_PROGRESS"),
        (31.0, "COMPLETED"),
    )


def test_id_from_elsewhere_that_leaves_the_queue_is_counted_from_then() -> None:
    observation = Observation.start(JOB, 0.0, 1000.0)

    assert [
        ("alive", Basis.FOUND_IN_QUEUE, 0.0, 5.0),
        ("alive", Basis.FOUND_VIA_QUEUE, 0.0, 5.0),
        ("ended", Basis.STARTED, 0.0, 3.0),
        ("ended", Basis.FOUND_VIA_QUEUE, 5.0, 8.0),
    ] == learnt(observation, (1.0, "IN_QUEUE"), (6.0, "IN_PROGRESS"), (9.0, "COMPLETED"))


def test_job_that_is_put_back_into_the_queue_stays_started() -> None:
    observation = Observation.start(JOB, 0.0, 0.0)
    learner = Learner()
    for now, status in ((0.0, "IN_QUEUE"), (5.0, "IN_PROGRESS"), (9.0, "IN_QUEUE")):
        observation.seen(now, status, learner.alive)

    assert Basis.STARTED is observation.basis
    assert (Basis.STARTED, 5.0) == observation.whole_life(10.0)


@pytest.mark.parametrize(
    ("seen", "ended", "told"),
    [(0.0, 60.0, True), (0.0, 61.0, False), (100.0, 200.0, True), (100.0, 201.0, False)],
)
def test_end_that_was_noticed_too_late_teaches_nothing(
    seen: float, ended: float, *, told: bool
) -> None:
    observation = Observation.start(SUBMITTED, 0.0, 1000.0)
    observation.from_the_start()
    observation.seen(seen, "IN_PROGRESS", Learner().alive)

    assert told == bool(learnt(observation, (ended, "COMPLETED")))


def test_end_is_told_once() -> None:
    observation = Observation.start(SUBMITTED, 0.0, 1000.0)
    observation.from_the_start()

    assert 1 == len(learnt(observation, (5.0, "COMPLETED")))
    assert [] == learnt(observation, (9.0, "COMPLETED"))


def test_submit_time_of_a_clock_that_was_ahead_is_unknown() -> None:
    observation = Observation.start(SUBMITTED, 0.0, 999.0)

    assert Basis.FOUND is observation.basis
    assert observation.since_submit(10.0) is None


@pytest.mark.parametrize(
    "statuses", [["IN_PROGRESS"], ["IN_QUEUE"], ["IN_QUEUE", "IN_PROGRESS"]]
)
def test_time_since_the_submit_is_told_whatever_the_status(statuses: list[str]) -> None:
    here, elsewhere = (
        Observation.start(SUBMITTED, 0.0, 1030.0),
        Observation.start(JOB, 0.0, 0.0),
    )
    for number, status in enumerate(statuses):
        for observation in (here, elsewhere):
            observation.seen(number, status, Learner().alive)

    assert 40.0 == here.since_submit(10.0)
    assert elsewhere.since_submit(10.0) is None


def test_whole_life_of_a_job_in_the_queue_counts_from_its_submit() -> None:
    observation = Observation.start(SUBMITTED, 0.0, 1030.0)
    before = observation.whole_life(1.0)
    observation.seen(2.0, "IN_QUEUE", Learner().alive)

    assert (Basis.SUBMITTED, 31.0) == before
    assert (Basis.SUBMITTED_VIA_QUEUE, 34.0) == observation.whole_life(4.0)

"""Delays after good answers and bad ones, and what a bad one means for the whole client."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from support import in_virtual_time

from modelmax_async import (
    APIError,
    MemoryLedger,
    ModelMaxError,
    PollingPolicy,
    PollPolicy,
    RetryPolicy,
    Status,
    StatusReport,
    TransportError,
    WaitState,
)
from modelmax_async._api.paths import make_job
from modelmax_async._polling.backoff import PollBackoff
from modelmax_async._polling.job import End, PolledJob
from modelmax_async._polling.learning import Learning
from modelmax_async._polling.observation import Observation
from modelmax_async._polling.schedule import Schedule
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff
from modelmax_async._runtime.tasks import Tasks
from modelmax_async.events import Event, PollFailed, PollingPaused
from modelmax_async.ledger import Key

pytestmark = [pytest.mark.anyio, in_virtual_time]
JOB = make_job("veo-3", "reef")
RETRY = RetryPolicy(initial=2.0, factor=2.0, maximum=100.0, give_up_after=100.0)


def now() -> float:
    return asyncio.get_running_loop().time()


def a_job() -> PolledJob:
    observation = Observation.start(JOB, now(), 0.0)
    return PolledJob(JOB, Key("http://127.0.0.1:80", "reef"), now(), observation)


def error_of(status: int, retry_after: float | None = None) -> APIError:
    return APIError("no", status_code=status, retry_after=retry_after)


class Setting:
    """A backoff and the schedule that it acts on."""

    def __init__(self, poll: PollingPolicy | None = None) -> None:
        self.seen: list[Event] = []
        retry = Backoff(RETRY, lambda: 0.5)
        tasks = Tasks()
        self.schedule: Schedule[PolledJob] = Schedule(
            self._visit, lambda _: None, tasks, 4, lambda: 0.5
        )
        learning = Learning(MemoryLedger(), "http://127.0.0.1:80", tasks)
        self.backoff = PollBackoff(
            poll or PollPolicy(), learning, retry, self.schedule, Hooks([self.seen.append])
        )

    async def _visit(self, job: PolledJob) -> float | None:
        return None

    def fails(self, job: PolledJob, error: ModelMaxError) -> float:
        return self.backoff.failed(job, error)


async def test_delays_double_with_each_failure_until_a_good_answer() -> None:
    setting, job = Setting(), a_job()

    delays = [setting.fails(job, error_of(502)) for _ in range(4)]
    setting.backoff.succeeded(job)
    delays.append(setting.fails(job, error_of(502)))

    assert [1.0, 2.0, 4.0, 8.0, 1.0] == delays


async def test_failure_is_told_with_its_cause_and_the_delay() -> None:
    setting = Setting()
    error = TransportError("it broke off", maybe_sent=True, job=JOB)

    setting.fails(a_job(), error)

    assert [PollFailed(JOB, str(error), 1.0)] == setting.seen


@pytest.mark.parametrize(("seconds", "final"), [(99.0, False), (100.0, True)])
async def test_failing_for_as_long_as_the_patience_is_final(
    seconds: float, *, final: bool
) -> None:
    setting, job = Setting(), a_job()
    error = error_of(502)

    setting.fails(job, error)
    await asyncio.sleep(seconds)
    raised = None
    try:
        setting.fails(job, error)
    except APIError as exc:
        raised = exc

    assert (error if final else None) is raised


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (error_of(429, 50.0), True),
        (error_of(503, 50.0), True),
        (error_of(500, 50.0), False),
        (error_of(408, 50.0), False),
        (error_of(429), False),
        (error_of(503), False),
    ],
)
async def test_only_a_429_or_503_that_names_a_time_pauses_the_whole_client(
    error: APIError, *, pauses: bool
) -> None:
    setting, job = Setting(), a_job()

    setting.fails(job, error)
    await asyncio.sleep(60)

    told = [event for event in setting.seen if isinstance(event, PollingPaused)]
    assert ([PollingPaused(50.0)] if pauses else []) == told
    assert (10.0 if pauses else 60.0) == setting.schedule.awake()


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_time_that_the_server_named_is_waited_and_counts_as_no_failing(
    status: int,
) -> None:
    """Once: not as a pause of all and as a respite for this job."""
    setting, job = Setting(), a_job()

    delay = setting.fails(job, error_of(status, 50.0))
    await asyncio.sleep(149)
    setting.fails(job, error_of(502))
    await asyncio.sleep(1)

    assert 50.0 == delay
    with pytest.raises(APIError):
        setting.fails(job, error_of(502))


@pytest.mark.parametrize(("status", "width"), [(429, 2), (503, 4), (502, 4)])
async def test_only_a_429_halves_the_visits_at_once(status: int, width: int) -> None:
    setting = Setting()

    setting.fails(a_job(), error_of(status))

    assert f"of {width} in flight" in repr(setting.schedule)


async def test_good_answers_let_the_visits_at_once_grow_back() -> None:
    setting, job = Setting(), a_job()

    setting.fails(job, error_of(429))
    for _ in range(10):
        setting.backoff.succeeded(job)

    assert "of 4 in flight" in repr(setting.schedule)


async def test_policy_is_told_what_is_known_of_the_wait() -> None:
    asked: list[WaitState] = []

    @attrs.frozen
    class Noting:
        def delay(self, wait: WaitState, random: float) -> float:
            asked.append(wait)
            return 7 + random

    await asyncio.sleep(5)
    setting, job = Setting(Noting()), a_job()
    delays = []
    for status in (Status.IN_QUEUE, Status.IN_QUEUE, "PAUSED"):
        await asyncio.sleep(2)
        job.report(StatusReport("reef", status), now())
        await asyncio.sleep(1)
        delays.append(setting.backoff.interval(job))

    assert [7.5] * 3 == delays
    assert [(0, 3.0), (1, 6.0), (2, 9.0)] == [(w.attempts, w.waited) for w in asked]
    assert [("IN_QUEUE", 1.0), ("IN_QUEUE", 4.0), ("PAUSED", 1.0)] == [
        (w.status, w.status_age) for w in asked
    ]
    assert {("veo-3", None)} == {(w.model, w.age) for w in asked}
    assert [3.0, 6.0, 9.0] == [w.forecast.age for w in asked]


async def test_policy_is_told_the_age_of_a_job_whose_submit_time_is_known() -> None:
    asked: list[WaitState] = []

    class Noting:
        def delay(self, wait: WaitState, random: float) -> float:
            asked.append(wait)
            return 100.0

    setting = Setting(Noting())
    job = attrs.evolve(JOB, submitted_at=1000.0)
    polled = PolledJob(job, Key("", "reef"), now(), Observation.start(job, now(), 1040.0))
    first = setting.backoff.before_first(polled)
    await asyncio.sleep(2)
    again = setting.backoff.before_first(polled)
    setting.backoff.interval(polled)

    assert (60.0, None) == (first, again)
    assert [(0, 0.0, None), (1, 42.0, None)] == [(w.attempts, w.age, w.status) for w in asked]


@pytest.mark.parametrize(
    ("last_polls", "expected"),
    [
        ([None], 7.0),
        ([3.0], 3.0),
        ([9.0, 3.0, None, 5.0], 3.0),
        ([8.0], 7.0),
        ([-1.0], 7.0),
        ([1.0], 7.0),
        ([0.5, 1.5], 1.5),
    ],
)
async def test_interval_ends_just_before_a_deadline(
    last_polls: list[float | None], expected: float
) -> None:
    setting, job = Setting(PollPolicy(initial=7, maximum=7, jitter=0)), a_job()
    for last_poll in last_polls:
        job.subscribers[Deadline(None if last_poll is None else now() + last_poll)] = None

    assert expected == setting.backoff.interval(job)


class Deadline:
    """A subscriber with a deadline."""

    bills = True

    def __init__(self, last_poll: float | None) -> None:
        self.last_poll = last_poll
        self.gap = 1.0

    def on_status(self, report: StatusReport) -> None: ...

    def on_end(self, end: End) -> None: ...

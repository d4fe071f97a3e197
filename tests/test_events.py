"""Event records and hooks: an error in one hook affects nothing else."""

from __future__ import annotations

import logging
import pickle

import attrs
import pytest
from strategies import JOB

from modelmax_async import Status, events
from modelmax_async._runtime.hooks import Hooks, call_safely
from modelmax_async.events import Event, logging_hook

TABLE: list[Event] = [
    events.JobSubmitted(JOB),
    events.StatusPolled(JOB, Status.IN_QUEUE),
    events.PollFailed(JOB, "HTTP 502", 1.5),
    events.PollingPaused(30.0),
    events.BilledCallArmed(JOB, "a1"),
    events.ResultStored(JOB, "a1"),
    events.AnswerDiscarded(JOB, "a1"),
    events.UnarmedAnswer(JOB, "a1"),
    events.ClaimReleased(JOB, "HTTP 429"),
    events.ResultUncertain(JOB, "sent", "it broke"),
    events.LedgerFailed(JOB, "disk full"),
    events.EntryUnreadable("req-1", None, "state must be a state"),
    events.SubmitDiscarded(JOB, JOB),
    events.VideoSaved("req-1", "videos/req-1-0.mp4", 1234),
    events.WaitStarted(JOB, 7),
    events.WaitEnded(JOB, 7, 1.5),
    events.CallEnded(call="content", method="GET", host="h", port=443, seconds=0.5),
    events.CallRetried(call="submit", cause="HTTP 502", delay=1.5),
    events.JobEnded(job=JOB, status="FAILED", seconds=9.5, polls=3, fetched=False),
]
ALARMS = [
    events.ResultUncertain,
    events.LedgerFailed,
    events.EntryUnreadable,
    events.AnswerDiscarded,
    events.UnarmedAnswer,
]
every = pytest.mark.parametrize("event", TABLE, ids=lambda event: type(event).__name__)


def test_table_has_every_record() -> None:
    made = {cls for cls in Event.__subclasses__() if "__slots__" in vars(cls)}

    assert {type(event) for event in TABLE} == made  # less what attrs made them from


@every
def test_records_are_frozen_values(event: Event) -> None:
    name = attrs.fields(type(event))[0].name

    assert event == pickle.loads(pickle.dumps(event))
    assert {event} == {attrs.evolve(event)}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(event, name, None)

    assert not hasattr(event, "__dict__")


@every
def test_every_hook_gets_every_record(event: Event) -> None:
    first: list[Event] = []
    second: list[Event] = []
    Hooks([first.append, second.append]).emit(event)

    assert [event] == first == second


@every
@pytest.mark.parametrize("hooks", [(), (logging_hook,)], ids=["no hooks", "logging hook"])
def test_alarms_are_logged_once_with_or_without_a_hook(
    event: Event, hooks: tuple[events.Hook, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "modelmax_async")
    Hooks(hooks).emit(event)

    assert [logging.ERROR] * (type(event) in ALARMS) == [r.levelno for r in caplog.records]


def test_record_is_made_only_if_a_hook_or_the_log_wants_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "modelmax_async")

    assert [False, True] == [Hooks(hooks).wants() for hooks in ([], [print])]
    assert [False, True] == [
        Hooks([logging_hook]).wants(n) for n in (logging.DEBUG, logging.INFO)
    ]


def test_failing_hook_is_logged_and_stops_no_other_hook(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Event] = []

    def broken(_: Event) -> None:
        raise RuntimeError("a user's bug")

    Hooks([broken, seen.append]).emit(TABLE[0])

    assert [TABLE[0]] == seen
    assert ["a callback failed on JobSubmitted"] == [r.getMessage() for r in caplog.records]
    assert caplog.records[0].exc_info is not None
    assert "a user's bug" == str(caplog.records[0].exc_info[1])


def test_hook_may_stop_the_process() -> None:
    """Only an `Exception` is the error of a hook: others are raised."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_safely(interrupt, "value")


def test_hooks_are_copied_at_construction() -> None:
    given: list[events.Hook] = []
    hooks = Hooks(given)
    seen: list[Event] = []
    given.append(seen.append)
    hooks.emit(TABLE[0])

    assert [] == seen

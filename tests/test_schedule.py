"""The heap of due times: pauses, dropped entries, what a stop leaves."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from support import in_virtual_time

from modelmax_async._polling.schedule import Schedule, Slot, Turn
from modelmax_async._runtime.tasks import Tasks
from modelmax_async.testing import VirtualTimeLoop

pytestmark = [pytest.mark.anyio, in_virtual_time]


@attrs.define(eq=False)
class Item:
    slot: Slot = attrs.field(factory=Slot)
    lost: bool = False
    visits: list[float] = attrs.field(factory=list)


def schedule_of(
    delays: list[float | None], max_in_flight: int = 4, tasks: Tasks | None = None
) -> Schedule[Item]:
    """A schedule whose visits answer these delays in turn, then ``None``."""

    async def visit(item: Item) -> float | None:
        item.visits.append(asyncio.get_running_loop().time())
        return delays.pop(0) if delays else None

    def lost(item: Item) -> None:
        item.lost = True

    return Schedule(visit, lost, tasks or Tasks(), max_in_flight, lambda: 0.5)


async def test_visits_come_when_they_are_due() -> None:
    schedule = schedule_of([5.0, 7.0])
    item = Item()

    schedule.put(item, 3.0)
    await asyncio.sleep(100)

    assert [3.0, 8.0, 15.0] == item.visits


async def test_only_the_latest_arrangement_counts() -> None:
    schedule = schedule_of([])
    item = Item()

    schedule.put(item, 3.0)
    schedule.put(item, 9.0)
    await asyncio.sleep(100)

    assert [9.0] == item.visits


async def test_shorter_pause_does_not_end_a_longer_one() -> None:
    schedule = schedule_of([])
    item = Item()

    schedule.put(item, 1.0)
    schedule.pause(50)
    schedule.pause(5)
    await asyncio.sleep(49)
    assert [] == item.visits
    await asyncio.sleep(20)

    assert [55.0] == item.visits  # half of the spread of ten seconds after the pause


async def test_time_that_a_restart_has_moved_can_be_brought_forward() -> None:
    schedule, item = schedule_of([]), Item()

    schedule.put(item, 5)
    schedule.pause(50)
    await asyncio.sleep(51)
    schedule.put_before(item, 1)
    await asyncio.sleep(20)

    assert [52.0] == item.visits


async def test_what_is_not_yet_due_at_the_restart_keeps_its_time() -> None:
    schedule = schedule_of([])
    item = Item()

    schedule.put(item, 80.0)
    schedule.pause(50)
    await asyncio.sleep(100)

    assert [80.0] == item.visits


async def test_dropped_entries_leave_the_heap() -> None:
    schedule = schedule_of([])
    items = [Item() for _ in range(1000)]
    for item in items:
        schedule.put(item, 1000.0)

    for item in items[:900]:
        schedule.drop(item)
        schedule.drop(item)

    assert len(schedule._heap) < 400
    assert "100 due" in repr(schedule)


async def test_no_more_visits_at_once_than_the_window_allows() -> None:
    out = 0
    most = 0

    async def visit(_: Item) -> None:
        nonlocal out, most
        out += 1
        most = max(most, out)
        await asyncio.sleep(1)
        out -= 1

    schedule: Schedule[Item] = Schedule(visit, lambda item: None, Tasks(), 8, lambda: 0.5)
    for _ in range(50):
        schedule.put(Item(), 0.0)
    schedule.slow_down()
    await asyncio.sleep(20)

    assert 4 == most


async def test_nothing_is_visited_after_a_stop() -> None:
    tasks = Tasks()
    schedule = schedule_of([1.0, 1.0, 1.0], tasks=tasks)
    item = Item()

    schedule.put(item, 1.0)
    await asyncio.sleep(1.5)
    tasks.close()
    schedule.stop()
    schedule.stop()
    await asyncio.sleep(10)

    assert [1.0] == item.visits


async def test_visit_cancelled_before_its_first_step_gives_its_slot_back() -> None:
    tasks = Tasks()
    schedule = schedule_of([], max_in_flight=1, tasks=tasks)
    unlucky, item = Item(), Item()

    schedule.put(unlucky, 0.0)
    schedule._start_due()
    for task in tasks.others():
        task.cancel()
    schedule.put(item, 5.0)
    await asyncio.sleep(10)

    assert (True, Turn.OFF, []) == (unlucky.lost, unlucky.slot.turn, unlucky.visits)
    assert [5.0] == item.visits
    assert "0 due, 0 of 1 in flight" in repr(schedule)


async def test_visit_cancelled_on_its_way_gives_its_slot_back() -> None:
    tasks = Tasks()

    async def visit(_: Item) -> None:
        await asyncio.sleep(100)

    def lost(item: Item) -> None:
        item.lost = True

    schedule: Schedule[Item] = Schedule(visit, lost, tasks, 1, lambda: 0.5)
    item = Item()
    schedule.put(item, 0.0)
    await asyncio.sleep(1)
    for task in tasks.others():
        task.cancel()
    await asyncio.sleep(1)

    assert item.lost
    assert "0 due, 0 of 1 in flight" in repr(schedule)


async def test_job_put_again_and_again_in_a_pause_does_not_fill_the_heap() -> None:
    schedule = schedule_of([])
    item = Item()

    schedule.pause(50)
    for _ in range(200_000):
        schedule.put(item, 0.0)
    size = len(schedule._heap)
    await asyncio.sleep(100)

    assert size < 200
    assert 1 == len(item.visits)


async def test_time_in_pauses_does_not_count() -> None:
    schedule = schedule_of([])

    await asyncio.sleep(5)
    schedule.pause(50)
    schedule.pause(30)
    times = [schedule.awake()]
    await asyncio.sleep(20)
    schedule.pause(40)
    times.append(schedule.awake())
    await asyncio.sleep(45)
    times.append(schedule.awake())

    assert [5.0, 5.0, 10.0] == times


@pytest.mark.parametrize(("seconds", "expected"), [(0.25, 0.75), (4.0, 6.0), (50.0, 55.0)])
async def test_restart_is_spread_over_as_long_as_the_pause_within_bounds(
    seconds: float, expected: float
) -> None:
    schedule = schedule_of([])
    item = Item()

    schedule.put(item, 0.125)
    schedule.pause(seconds)
    await asyncio.sleep(100)

    assert [expected] == item.visits  # in the middle of the spread


async def test_restart_visits_what_falls_due_first_before_what_was_spread() -> None:
    schedule = schedule_of([])
    items = [Item(), Item(), Item()]

    for item, due in zip(items, (1.0, 2.0, 51.0), strict=True):
        schedule.put(item, due)
    schedule.pause(50)
    await asyncio.sleep(100)

    assert [[55.0], [55.0], [51.0]] == [item.visits for item in items]


async def test_pause_that_is_over_spreads_nothing_any_more() -> None:
    schedule = schedule_of([10.0])
    item = Item()

    schedule.put(item, 1.0)
    schedule.pause(50)
    await asyncio.sleep(100)
    schedule.put(item, 3.0)
    await asyncio.sleep(10)

    assert [55.0, 65.0, 103.0] == item.visits


async def test_window_halves_down_to_one_and_grows_by_one_for_each_window_of_answers() -> None:
    schedule = schedule_of([], max_in_flight=8)

    def width() -> str:
        return repr(schedule).split(" of ")[1].split()[0]

    widths = [width()]
    for _ in range(5):
        schedule.slow_down()
        widths.append(width())
    for _ in range(60):
        schedule.speed_up()
        widths.append(width())

    answers = {n: widths[6:].count(str(n)) for n in range(2, 8)}
    assert ["8", "4", "2", "1", "1", "1"] == widths[:6]
    assert all(n <= answers[n] <= n + 1 for n in answers)
    assert "8" == widths[-1]


async def test_slots_that_come_free_are_taken_by_those_who_wait_for_one() -> None:
    ended: list[float] = []

    async def visit(_: Item) -> None:
        await asyncio.sleep(1)
        ended.append(asyncio.get_running_loop().time())

    schedule: Schedule[Item] = Schedule(visit, lambda item: None, Tasks(), 2, lambda: 0.5)
    for _ in range(6):
        schedule.put(Item(), 0.0)
    await asyncio.sleep(20)

    assert [1.0, 1.0, 2.0, 2.0, 3.0, 3.0] == ended


async def test_repr_counts_what_is_due_and_no_entry_that_was_replaced() -> None:
    schedule = schedule_of([5.0, 500.0])
    item, other = Item(), Item()
    seen = [repr(schedule)]

    schedule.put(item, 3.0)
    schedule.put(item, 9.0)
    schedule.put(other, 200.0)
    seen.append(repr(schedule))
    await asyncio.sleep(4)
    seen.append(repr(schedule))
    await asyncio.sleep(20)
    seen.append(repr(schedule))
    schedule.put(item, 600.0)
    seen.append(repr(schedule))
    schedule.drop(item)
    schedule.drop(item)
    seen.append(repr(schedule))

    assert [9.0, 14.0] == item.visits
    assert [0, 2, 2, 2, 2, 1] == [int(text.split()[1]) for text in seen]


async def test_what_is_left_after_dropping_most_is_visited_when_it_is_due() -> None:
    schedule = schedule_of([])
    items = [Item() for _ in range(300)]
    dues = [float((n * 7919) % 1000 + 1) for n in range(300)]

    for item, due in zip(items, dues, strict=True):
        schedule.put(item, due)
    for item in items[:200]:
        schedule.drop(item)
    due_now = repr(schedule)
    await asyncio.sleep(2000)

    assert "100 due" in due_now
    assert [[]] * 200 == [item.visits for item in items[:200]]
    assert [[due] for due in dues[200:]] == [item.visits for item in items[200:]]
    assert "0 due" in repr(schedule)


async def test_visit_under_way_at_a_stop_ends_and_is_not_arranged_again() -> None:
    ended: list[float] = []

    async def visit(_: Item) -> float:
        await asyncio.sleep(5)
        ended.append(asyncio.get_running_loop().time())
        return 1.0

    tasks = Tasks()
    schedule: Schedule[Item] = Schedule(visit, lambda item: None, tasks, 2, lambda: 0.5)
    schedule.put(Item(), 0.0)
    await asyncio.sleep(1)
    tasks.close()
    schedule.stop()
    await asyncio.sleep(10)
    left = repr(schedule)
    schedule.put(Item(), 0.0)
    await asyncio.sleep(10)

    assert [5.0] == ended
    assert "0 due, 0 of 2" in left


async def test_those_who_are_due_together_are_visited_in_the_order_they_came() -> None:
    """A delay below zero is no privilege."""
    order: list[str] = []

    @attrs.define(eq=False)
    class Named(Item):
        name: str = ""

    async def visit(item: Named) -> None:
        order.append(item.name)

    schedule: Schedule[Named] = Schedule(visit, lambda item: None, Tasks(), 1, lambda: 0.5)
    for name, delay in (("a", 0.0), ("b", 0.0), ("c", -5.0)):
        schedule.put(Named(name=name), delay)
    await asyncio.sleep(1)

    assert ["a", "b", "c"] == order


async def test_visit_for_which_the_loop_comes_late_is_not_spread_without_a_pause() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    schedule = schedule_of([])
    item = Item()

    schedule.put(item, 1.0)
    loop._virtual.now += 1.25
    await asyncio.sleep(10)

    assert [1.25] == item.visits


async def test_visit_that_raises_is_lost_and_gives_its_slot_back() -> None:
    async def visit(_: Item) -> None:
        raise KeyError("a defect")

    def lost(item: Item) -> None:
        item.lost = True

    schedule: Schedule[Item] = Schedule(visit, lost, Tasks(), 1, lambda: 0.5)
    items = [Item(), Item()]
    for item in items:
        schedule.put(item, 0.0)
    await asyncio.sleep(1)

    assert [True, True] == [item.lost for item in items]
    assert "0 due, 0 of 1 in flight" in repr(schedule)


async def test_heap_is_swept_rarely() -> None:
    """Each time it costs as much as the heap is long."""
    schedule = schedule_of([])
    items = [Item() for _ in range(2000)]
    for item in items:
        schedule.put(item, 1000.0)

    heaps = [schedule._heap]
    for item in items[:1800]:
        schedule.drop(item)
        if heaps[-1] is not schedule._heap:
            heaps.append(schedule._heap)

    assert 2 <= len(heaps) <= 6

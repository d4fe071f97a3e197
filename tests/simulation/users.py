"""What the users of a process do with its client, one thing after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from random import Random
from typing import TYPE_CHECKING, Any

import attrs

from modelmax_async import (
    AsyncQueueClient,
    BadRequestError,
    GatherError,
    ModelMaxError,
    Result,
    StatusReport,
    VideoRequest,
)
from simulation.judge import Judge
from simulation.means import MEANS

if TYPE_CHECKING:
    from simulation.processes import Process
    from simulation.world import World

#: Another model than the one that every job here is of.
WRONG = "veo-3-fast"
#: The keys of requests that every process submits.
KEYS = ("a", "b", "c", "d")


@attrs.define(eq=False)
class User:
    """One user of one process: what it may touch, and its own chance."""

    world: World
    judge: Judge
    process: Process
    chance: Random
    jobs: list[str]
    name: str
    life: asyncio.Task[None] | None = None
    act: asyncio.Task[Any] | None = None

    def begin(self, until: float) -> None:
        """Live as a task of the process."""
        self.life = self.process.spawn(live(self, until), f"{self.process.name} {self.name}")

    @property
    def ended(self) -> bool:
        return self.life is None or self.life.done()

    def cancel(self) -> None:
        """Cancel what the user does now."""
        if self.act is not None:
            self.act.cancel()

    @property
    def client(self) -> AsyncQueueClient:
        assert self.process.client is not None
        return self.process.client

    def some(self) -> list[str]:
        """Return some of the jobs, in any order."""
        size = self.chance.randint(1, len(self.jobs))
        return self.chance.sample(self.jobs, size)

    def timeout(self) -> float | None:
        """Return how long a call may wait."""
        if self.world.calm or not self.world.features:
            return None
        return self.chance.choice([None, None, 5.0, 20.0, 60.0])

    def log(self, what: str) -> None:
        self.world.log(self.process, f"{self.name} {what}")

    def took(self, request_id: str, ended: object) -> None:
        """Look at how a wait of this user ended."""
        job = self.judge.name(request_id)
        self.log(f"{job}: {type(ended).__name__}")
        if isinstance(ended, Result):
            self.judge.result(self.process, request_id, ended.raw)
        elif isinstance(ended, BadRequestError) and "mismatch" in ended.message:
            self.judge.accuse("another waiter's model is used", job, self.process.name)
        elif not isinstance(ended, ModelMaxError | asyncio.CancelledError):
            self.judge.accuse("a foreign error reaches a user", job, repr(ended))

    async def call(self, request_id: str, work: Awaitable[Any]) -> None:
        """Await a call about one job, and look at its end."""
        self.judge.waiting(self.process, request_id)
        try:
            self.took(request_id, await work)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the judge looks at it
            self.took(request_id, exc)


Act = Callable[[User], Awaitable[None]]


async def wait(user: User) -> None:
    job = user.chance.choice(user.jobs)
    await user.call(job, user.client.wait_for(job, timeout=user.timeout()))


async def ask(user: User) -> None:
    job = user.chance.choice(user.jobs)
    await user.call(job, user.client.result(job))


async def gather(user: User) -> None:
    jobs = user.some()
    for job in jobs:
        user.judge.waiting(user.process, job)
    try:
        results: Sequence[Any] = await user.client.gather_results(jobs, timeout=user.timeout())
    except GatherError as exc:
        results = [outcome.result or outcome.error for outcome in exc.outcomes]
    except ModelMaxError as exc:
        results = [exc] * len(jobs)
    for job, ended in zip(jobs, results, strict=True):
        user.took(job, ended)


async def _look(user: User, stream: AsyncIterator[Any]) -> None:
    """Iterate to the end, or leave half-way; perhaps begin late."""
    if user.chance.random() < 0.3:
        await asyncio.sleep(user.chance.uniform(0, 40))
    left = user.chance.choice([1, 2, 100])
    try:
        async for item in stream:
            if not isinstance(item, StatusReport):
                user.took(item.job.request_id, item.result or item.error)
            left -= 1
            if not left and not user.world.calm:
                break
    except ModelMaxError as exc:
        user.log(f"iterator: {type(exc).__name__}")


async def iterate(user: User) -> None:
    jobs = user.some()
    for job in jobs:
        user.judge.waiting(user.process, job)
    await _look(user, user.client.as_completed(jobs, timeout=user.timeout()))


async def watch(user: User) -> None:
    job = user.chance.choice(user.jobs)
    await _look(user, user.client.watch(job))


async def look(user: User) -> None:
    try:
        for job in await user.client.pending():
            if job.request_id not in user.jobs:
                user.jobs.append(job.request_id)
        user.client.notify(user.chance.choice(user.jobs))
        await user.client.status(user.chance.choice(user.jobs))
    except ModelMaxError as exc:
        user.log(f"looks: {type(exc).__name__}")


async def submit(user: User) -> None:
    try:
        job = await user.client.submit("a reef")
    except ModelMaxError as exc:
        user.log(f"submits: {type(exc).__name__}")
        return
    user.log(f"submitted {user.judge.name(job.request_id)}")
    user.jobs.append(job.request_id)
    await user.call(job.request_id, user.client.wait_for(job, timeout=user.timeout()))


async def _unresolved(user: User) -> list[str]:
    """Look a few times for jobs that want a decision."""
    for _ in range(user.chance.choice([1, 8])):
        try:
            entries = await user.client.unresolved()
        except ModelMaxError as exc:
            user.log(f"lists: {type(exc).__name__}")
            return []
        if entries or user.world.calm:
            return [entry.job.request_id for entry in entries]
        await asyncio.sleep(3)
    return []


async def decide(user: User) -> None:
    """Decide about what is unresolved, after a while, or about any job without looking."""
    jobs = [user.chance.choice(user.jobs)]
    if user.chance.random() < 0.6:
        jobs = await _unresolved(user)
        await asyncio.sleep(user.chance.choice([0.0, 0.0, 1.0, 10.0]))
    for job in jobs:
        user.log(f"accepts a second charge for {user.judge.name(job)}")
        with user.judge.deciding(user.process, job):
            await user.call(job, user.client.result(job, accept_second_charge=True))


async def mistake(user: User) -> None:
    """Name the wrong model for a job."""
    job = user.chance.choice(user.jobs)
    try:
        await user.client.wait_for(job, model=WRONG, timeout=user.timeout())
    except ModelMaxError as exc:
        user.log(f"{user.judge.name(job)} with the wrong model: {type(exc).__name__}")


async def submit_with_key(user: User) -> None:
    """Submit one of a few requests, which other processes submit as well."""
    key = user.chance.choice(KEYS)
    try:
        job = await user.client.submit(f"prompt {key}", key=key)
    except ModelMaxError as exc:
        user.log(f"submits {key}: {type(exc).__name__}")
        return
    user.judge.bound(user.process, key, job.request_id)
    user.jobs.append(job.request_id)
    await user.call(job.request_id, user.client.wait_for(job, timeout=user.timeout()))


async def generate(user: User) -> None:
    """Run a batch of them, perhaps only its beginning."""
    requests = [VideoRequest(f"prompt {key}", key=key) for key in KEYS]
    left = user.chance.choice([1, 3, 100])
    outcomes = user.client.generate_many(requests, max_jobs=2, timeout=user.timeout())
    try:
        async with aclosing(outcomes):
            async for outcome in outcomes:
                if outcome.job is not None and outcome.request and outcome.request.key:
                    request_id = outcome.job.request_id
                    user.judge.bound(user.process, outcome.request.key, request_id)
                    user.judge.waiting(user.process, request_id)
                    user.took(request_id, outcome.result or outcome.error)
                left -= 1
                if not left:
                    break
    except ModelMaxError as exc:
        user.log(f"batch: {type(exc).__name__}")


#: What any user does, and what users do only in runs with the feature.
ACTS: tuple[Act, ...] = (wait, wait, wait, ask, gather, iterate, watch, look, submit)
MORE: dict[str, tuple[Act, ...]] = {
    "decisions": (decide,),
    "mistakes": (mistake,),
    "keys": (submit_with_key, generate),
}


async def _do(user: User, act: Act) -> None:
    """Do one thing, perhaps only for a while."""
    chance = user.chance
    if "cancellations" not in user.world.features or chance.random() > 0.3:
        await act(user)
        return
    means = chance.choice(MEANS)
    seconds = chance.choice([0.0, 0.001, chance.uniform(0, 3), chance.uniform(0, 40)])
    user.world.inject(means.__name__)
    await means(lambda: act(user), seconds)


async def live(user: User, until: float) -> None:
    """Do one thing after another, cancelled now and then, until the time is over."""
    chance, features = user.chance, user.world.features
    acts = [*ACTS, *(a for name, more in MORE.items() if name in features for a in more * 4)]
    await asyncio.sleep(chance.choice([0.0, 0.0, chance.uniform(0, 20)]))
    while user.world.loop.time() < until and not user.process.closing:
        act = chance.choice(acts)
        user.log(f"begins to {act.__name__}")
        user.act = asyncio.ensure_future(_do(user, act))
        try:
            await asyncio.wait([user.act])
        except asyncio.CancelledError:  # it hung, and was judged for that
            user.act.cancel()
            raise
        if not user.act.cancelled():
            user.act.result()
        await asyncio.sleep(chance.choice([0.0, 0.1, chance.uniform(0, 15)]))

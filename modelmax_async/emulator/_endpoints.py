"""The four endpoints over the emulator's state (API §1-§4). This module does no I/O."""

from __future__ import annotations

import base64
from collections import Counter, deque
from http import HTTPStatus
from random import Random
from typing import Any
from urllib.parse import quote

from attrs import evolve

from modelmax_async.emulator._account import Account
from modelmax_async.emulator._content import content_response
from modelmax_async.emulator._jobs import EmulatedJob, JobScript
from modelmax_async.emulator._requests import Route, parse_submit
from modelmax_async.emulator._responses import Response, error_response, json_response


class Backend:
    """The jobs and the count of billed calls, by request id, the account, and the responses.

    The next submitted jobs get `scripts`, in order; any other job gets `default`, or fails if
    its turn in the seeded sequence says so.
    """

    def __init__(
        self,
        account: Account,
        script: JobScript | None,
        seed: int,
        fail_rate: float,
        prefix: str,
    ) -> None:
        if not 0 <= fail_rate <= 1:
            raise ValueError(f"fail_rate must be a number from 0 to 1, got {fail_rate!r}")
        self.account = account
        self.jobs: dict[str, EmulatedJob] = {}
        self.billed: Counter[str] = Counter()
        self.scripts: deque[JobScript] = deque()
        self.default: JobScript = script or JobScript()
        self._contents: dict[str, EmulatedJob] = {}
        self._random = Random(seed)  # noqa: S311 - ids are reproducible, not secret
        self._fail_rate = fail_rate
        self._outcomes = Random(f"outcomes {seed}")  # noqa: S311 - as above; ids do not change
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
            raise ValueError(f"request_id {job.request_id!r} already belongs to a job")
        self.jobs[job.request_id] = self._contents[job.content_id] = job
        return job

    def job_id(self, route: Route) -> str | None:
        """Return the request id of a path's job; content paths contain another id."""
        job = self._contents.get(route.request_id or "")
        return job.request_id if route.endpoint == "content" and job else route.request_id

    def respond(
        self, route: Route, headers: dict[str, str], body: bytes, now: float
    ) -> Response:
        """Process a request."""
        if route.endpoint == "unknown":
            return error_response(HTTPStatus.NOT_FOUND, "not_found", "no such endpoint")
        if not self.account.accepts(headers.get("authorization", "")):
            return error_response(
                HTTPStatus.UNAUTHORIZED, "unauthorized", "missing or invalid API key"
            )
        if route.endpoint == "config":
            return json_response(HTTPStatus.OK, {"balance": self.account.balance})
        if self.account.is_empty:
            return error_response(
                HTTPStatus.PAYMENT_REQUIRED, "insufficient_balance", "insufficient balance"
            )
        if route.endpoint == "submit":
            return self._submit(route, body, now)
        return self._about_a_job(route, headers, now)

    def _about_a_job(self, route: Route, headers: dict[str, str], now: float) -> Response:
        known = self._contents if route.endpoint == "content" else self.jobs
        job = known.get(route.request_id or "")
        if job is None:
            return error_response(HTTPStatus.BAD_REQUEST, "bad_request", "invalid request id")
        if job.model != route.model:
            return error_response(HTTPStatus.BAD_REQUEST, "bad_request", "provider mismatch")
        if route.endpoint == "content":
            return self._content(job, route.index, headers)
        return (self._status if route.endpoint == "status" else self._result)(job, now)

    def _submit(self, route: Route, body: bytes, now: float) -> Response:
        try:
            document = parse_submit(route.model, body)
        except ValueError as error:
            return error_response(HTTPStatus.BAD_REQUEST, "bad_request", str(error))
        script = self.scripts.popleft() if self.scripts else self._next_default()
        job = self.add_job(None, route.model, script, document, now)
        url = self._url(job.model, job.request_id)
        return json_response(
            HTTPStatus.ACCEPTED,
            {
                "request_id": job.request_id,
                "status": "IN_QUEUE",
                "status_url": f"{url}/status",
                "response_url": url,
                **script.extra,
            },
        )

    def _next_default(self) -> JobScript:
        if self._outcomes.random() >= self._fail_rate:
            return self.default
        return evolve(self.default, outcome="FAILED", statuses=None)

    def _status(self, job: EmulatedJob, now: float) -> Response:
        status = job.poll_status(now)
        failed = {"error": job.script.error} if status == "FAILED" else {}
        document = {"request_id": job.request_id, "status": status}
        return json_response(HTTPStatus.OK, {**document, **failed, **job.script.extra})

    def _result(self, job: EmulatedJob, now: float) -> Response:
        status = job.result_status(now)
        document: dict[str, Any] = {
            "request_id": job.request_id,
            "status": status,
            "model": job.model,
        }
        if status == "FAILED":
            document["error"] = job.script.error
        elif status == "COMPLETED":
            self.billed[job.request_id] += 1
            self.account.charge()
            document["data"] = self._data(job)
            document["usage"] = _usage(job)
        return json_response(HTTPStatus.OK, {**document, **job.script.extra})

    def _content(self, job: EmulatedJob, index: str, headers: dict[str, str]) -> Response:
        if index not in map(str, range(_videos(job))):
            return error_response(HTTPStatus.BAD_REQUEST, "bad_request", "invalid index")
        job.content_calls += 1
        return content_response(
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
    """Return the usage (API §3); the vendor's own client sends camelCase parameters."""
    if job.script.usage is not None:
        return dict(job.script.usage)
    asked = job.parameters
    return {
        "video_seconds": asked.get("duration_seconds", asked.get("durationSeconds", 8)),
        "video_resolution": asked.get("resolution", "720p"),
        "video_has_audio": asked.get("generate_audio", asked.get("generateAudio", True)),
    }

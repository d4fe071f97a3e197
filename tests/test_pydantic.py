"""Values as types of pydantic: annotations of FastAPI, arguments and results of taskiq."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import pydantic
import pytest
from fastapi import Body, FastAPI
from strategies import JOB, PNG
from taskiq import InMemoryBroker, TaskiqResult
from test_dicts import EVERY, every_value
from test_public_values import RESULT

from modelmax_async import Job, Result, VideoParameters, VideoRequest

app = FastAPI()


@app.get("/result")
async def _result() -> Result:
    return RESULT


@app.post("/jobs")
async def _jobs(job: Annotated[Job, Body()]) -> list[Job]:
    return [job]


def has_path(value: Any) -> bool:
    return isinstance(getattr(getattr(value, "parameters", None), "image", None), Path)


async def call(method: str, path: str, data: Any = None) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.request(method, path, json=data)


@pytest.mark.anyio
async def test_fastapi_returns_an_annotated_result() -> None:
    response = await call("GET", "/result")

    assert RESULT == Result.from_dict(response.json())


@pytest.mark.anyio
async def test_fastapi_takes_a_job_and_refuses_another_body() -> None:
    response = await call("POST", "/jobs", JOB.to_dict())
    refused = await call("POST", "/jobs", {"model": 5, "request_id": "a"})

    assert [JOB.to_dict()] == response.json()
    assert 422 == refused.status_code
    assert "Job.model must be a string, got 5" in refused.text


def test_openapi_describes_the_fields() -> None:
    paths = app.openapi()["paths"]
    (answer,) = paths["/result"]["get"]["responses"]["200"]["content"].values()
    (body,) = paths["/jobs"]["post"]["requestBody"]["content"].values()

    assert {"request_id", "model", "videos", "usage", "raw"} == set(
        answer["schema"]["properties"]
    )
    assert ["url", "index"] == answer["schema"]["properties"]["videos"]["items"]["required"]
    assert ["model", "request_id"] == body["schema"]["required"]


@every_value
def test_pydantic_writes_and_reads_as_the_dicts_do(value: Any) -> None:
    adapter = pydantic.TypeAdapter(type(value))
    untyped = pydantic.TypeAdapter(Any).dump_json([value])

    assert json.loads(adapter.dump_json(value)) == value.to_dict()
    assert [value.to_dict()] == json.loads(untyped)
    assert value is adapter.validate_python(value)
    if not has_path(value):
        assert value == adapter.validate_python(value.to_dict())


@every_value
def test_json_schema_names_every_key(value: Any) -> None:
    schema = pydantic.TypeAdapter(type(value)).json_schema()

    assert value.to_dict().keys() - {"seed"} <= schema["properties"].keys()
    assert set(schema["required"]) <= schema["properties"].keys()


def test_json_schema_of_the_types() -> None:
    kinds = {type(value).__name__: type(value) for value in EVERY}
    entry, report, wait, usage = (
        pydantic.TypeAdapter(kinds[name]).json_schema()["properties"]
        for name in ("LedgerEntry", "StatusReport", "WaitState", "LedgerUsage")
    )
    null = {"type": "null"}

    assert {"anyOf": [{"type": "string", "contentEncoding": "base64"}, null]} == entry["body"]
    assert {"anyOf": [{"type": "string", "enum": ["sent", "answered"]}, null]} == entry["phase"]
    assert {"type": "string"} == report["status"]
    assert {"anyOf": [{"type": "string"}, null]} == wait["status"]
    models = usage["by_model"]["additionalProperties"]

    assert {"type": "number"} == models["properties"]["seconds"]


def test_body_of_a_request_cannot_name_a_file_of_the_server() -> None:
    adapter = pydantic.TypeAdapter(VideoRequest)
    data = VideoRequest(
        "A fox", parameters=VideoParameters(image=Path("/etc/passwd"))
    ).to_dict()
    sent = VideoRequest("A fox", parameters=VideoParameters(image=PNG))

    with pytest.raises(pydantic.ValidationError, match="got the path of a file"):
        adapter.validate_python(data)
    assert sent == adapter.validate_python(sent.to_dict())


@pytest.mark.anyio
async def test_taskiq_takes_a_job_and_returns_a_result() -> None:
    broker = InMemoryBroker()

    @broker.task
    async def fetch(job: Job) -> Result:
        assert JOB == job
        return RESULT

    task = await fetch.kiq(JOB)
    done: TaskiqResult[Result] = await task.wait_result(timeout=5)

    assert RESULT == done.return_value


def test_values_work_without_pydantic() -> None:
    script = (
        "import sys; sys.modules['pydantic'] = sys.modules['pydantic_core'] = None\n"
        "from modelmax_async import Job\n"
        "print(Job.from_dict(Job('veo-3', 'reef').to_dict()).request_id)"
    )
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=15
    )

    assert "reef" == done.stdout.strip()

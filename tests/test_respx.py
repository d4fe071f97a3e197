"""The client under respx: a mocked API, and a mock that starts while the client is in use."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import respx
from ledgers import Seen
from support import FAST, KEY, on_socket

from modelmax_async import AsyncQueueClient, ResultUncertainError, RetryPolicy, Status
from modelmax_async.emulator import Emulator, sample_mp4
from modelmax_async.events import Event, UnarmedAnswer

pytestmark = pytest.mark.anyio
URL = "https://api.modelmax.io"
JOB = "/v1/queue/veo-3/requests/reef"


@respx.mock(base_url=URL)
async def test_mocked_api_serves_a_job_from_submit_to_download(
    respx_mock: respx.MockRouter, tmp_path: Path
) -> None:
    video = sample_mp4()
    queued = {"request_id": "reef", "status": "IN_QUEUE"}
    completed = {"request_id": "reef", "status": "COMPLETED"}
    data = [{"url": f"{URL}{JOB}/content/0"}]
    submit = respx_mock.post("/v1/queue/veo-3").respond(202, json=queued)
    status = respx_mock.get(f"{JOB}/status").respond(json=completed)
    result = respx_mock.get(JOB).respond(json={**completed, "data": data})
    content = respx_mock.get(f"{JOB}/content/0").respond(
        content=video, content_type="video/mp4"
    )

    async with AsyncQueueClient(api_key=KEY, model="veo-3", poll=FAST) as client:
        job = await client.submit("a reef")
        report = await client.status(job)
        paid = await client.wait_for(job)
        (path,) = await client.download(paid, tmp_path)

    assert "reef" == job.request_id == paid.request_id
    assert Status.COMPLETED == report.status
    assert video == path.read_bytes()
    assert [1, 2, 1, 1] == [route.call_count for route in (submit, status, result, content)]
    assert f"Bearer {KEY}" == submit.calls.last.request.headers["authorization"]


class TestMockThatStartsLate:
    """The client has seen trace events before respx patches the HTTP library."""

    async def test_response_to_an_unarmed_call_is_kept_and_reported(
        self, emulator: Emulator, url: str
    ) -> None:
        request_id = emulator.add_job()
        ledger = Seen()
        seen: list[Event] = []
        body = {
            "request_id": request_id,
            "status": "COMPLETED",
            "data": [{"url": "/v1/x"}],
        }

        async with on_socket(url, ledger=ledger, hooks=[seen.append]) as client:
            await client.status(request_id)
            with respx.mock:
                respx.get(path__regex=".*").respond(200, json=body)
                result = await client.result(request_id)

        assert "/v1/x" == result.videos[0].url
        assert ["Claim", "Store"] == ledger.kinds
        assert [UnarmedAnswer] == [type(e) for e in seen if isinstance(e, UnarmedAnswer)]

    async def test_connection_error_of_an_unarmed_call_is_uncertain(
        self, emulator: Emulator, url: str
    ) -> None:
        request_id = emulator.add_job()

        async with on_socket(url, retry=RetryPolicy(initial=0.01)) as client:
            await client.status(request_id)
            with respx.mock:
                route = respx.get(path__regex=".*").mock(side_effect=httpx.ReadError)
                with pytest.raises(ResultUncertainError):
                    await client.result(request_id)
            (entry,) = await client.unresolved()

        assert 1 == route.call_count
        assert request_id == entry.job.request_id

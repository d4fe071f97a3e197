"""The pollers of other SDKs, with their own intervals and against the local server.

Each waits as its documentation shows. openai and runwayml return when the job is done, and
fetch no result; fal-client fetches it.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import fal_client
import openai
import runwayml
from runwayml.lib.polling import NewTaskCreatedResponse, create_async_waitable_resource

from benchmarks._local import MODEL
from benchmarks.polling_clients import Waiter, plain_session


class _Fal(Waiter):
    """fal-client: a handle is a public value, and a copy of it is pointed at each job."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, handle: fal_client.AsyncRequestHandle
    ) -> None:
        super().__init__(url, session)
        self._handle = handle

    async def wait(self, request_id: str) -> None:
        url = f"{self._url}/v1/queue/{MODEL}/requests/{request_id}"
        handle = dataclasses.replace(
            self._handle, request_id=request_id, response_url=url, status_url=f"{url}/status"
        )
        await handle.get()


@asynccontextmanager
async def fal(url: str) -> AsyncIterator[Waiter]:
    """Run fal-client's handle."""
    handle = await fal_client.AsyncClient(key="a:b").get_handle("an/app", "id")
    async with plain_session() as session, handle.client:
        yield _Fal(url, session, handle)


class _Runway(Waiter):
    def __init__(
        self, url: str, session: aiohttp.ClientSession, client: runwayml.AsyncRunwayML
    ) -> None:
        super().__init__(url, session)
        self._waitable = create_async_waitable_resource(NewTaskCreatedResponse, client)

    async def wait(self, request_id: str) -> None:
        await self._waitable(id=request_id).wait_for_task_output(timeout=None)


@asynccontextmanager
async def runway(url: str) -> AsyncIterator[Waiter]:
    """Run runwayml's ``wait_for_task_output`` on its aiohttp client."""
    async with (
        plain_session() as session,
        runwayml.DefaultAioHttpClient() as http_client,
        runwayml.AsyncRunwayML(
            api_key="sk-benchmark", base_url=url, http_client=http_client, timeout=None
        ) as client,
    ):
        yield _Runway(url, session, client)


class _OpenAI(Waiter):
    def __init__(
        self, url: str, session: aiohttp.ClientSession, client: openai.AsyncOpenAI
    ) -> None:
        super().__init__(url, session)
        self._client = client

    async def wait(self, request_id: str) -> None:
        await self._client.videos.poll(request_id)


@asynccontextmanager
async def open_ai(url: str) -> AsyncIterator[Waiter]:
    """Run openai's ``videos.poll`` on its aiohttp client.

    Its videos are deprecated because that service ends, but it still has this poller.
    """
    warnings.filterwarnings("ignore", "The Sora API", DeprecationWarning)
    async with (
        plain_session() as session,
        openai.DefaultAioHttpClient() as http_client,
        openai.AsyncOpenAI(
            api_key="sk-benchmark", base_url=f"{url}/v1", http_client=http_client, timeout=None
        ) as client,
    ):
        yield _OpenAI(url, session, client)

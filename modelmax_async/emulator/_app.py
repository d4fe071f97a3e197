"""The emulator: an ASGI application that keeps its own count of billed calls."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from modelmax_async._reprs import always_shown
from modelmax_async.emulator._account import Account
from modelmax_async.emulator._connection import Connection, Receive, Scope, Send
from modelmax_async.emulator._endpoints import Backend
from modelmax_async.emulator._faults import UNPROCESSED, Endpoint, Fault, Plan
from modelmax_async.emulator._inprocess import InProcessTransport
from modelmax_async.emulator._requests import UNKNOWN, Received, read_headers, route
from modelmax_async.emulator._responses import Response
from modelmax_async.emulator._summary import summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import httpx

    from modelmax_async.emulator._jobs import EmulatedJob, JobScript


@always_shown
class Emulator:
    """A local ModelMax that counts what it bills.

    Args:
        api_key: The key that clients must send; `None` accepts any key.
        script: How jobs go, unless `script` or `add_job` gives another script.
        seed: Seed of the request ids, and of which jobs fail.
        fail_rate: The share of submitted jobs without a script of their own that FAIL, from 0
            to 1.
        balance: See the attribute.
        price: The US dollars that each billed call takes from the balance. The default is
            invented: the API's documentation names no prices.
        base_path: A path in front of every endpoint, such as `/proxy`; URLs in responses
            include it.
        record: Whether to keep every request in `requests`; `False` suits long load tests.

    Attributes:
        balance: The account's balance in US dollars, which each billed call lowers. If it is
            zero or less, every request but `/v1/config` gets a 402 (API §1); `None` is always
            enough. Set it to top up.
        requests: Every request received, in order.
        in_flight: Requests being handled now.
        max_in_flight_seen: The highest value of `in_flight` so far.
        submits: Submit requests received, including those refused or dropped.
    """

    def __init__(
        self,
        *,
        api_key: str | None = "sk-emulator",
        script: JobScript | None = None,
        seed: int = 0,
        fail_rate: float = 0.0,
        balance: float | None = None,
        price: float = 1.0,
        base_path: str = "",
        record: bool = True,
    ) -> None:
        self._prefix = base_path.rstrip("/")
        self._account = Account(api_key, balance, price)
        self._backend = Backend(self._account, script, seed, fail_rate, self._prefix)
        self._plan = Plan()
        self._record = record
        self._calls: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.requests: list[Received] = []
        self.in_flight: int = 0
        self.max_in_flight_seen: int = 0
        self.submits: int = 0

    def __repr__(self) -> str:
        jobs, billed = len(self._backend.jobs), self.billed_total
        name = type(self).__name__
        return f"<{name} jobs={jobs} billed={billed} in_flight={self.in_flight}>"

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that calls the emulator in process, whatever the URL's host."""
        return InProcessTransport(self.app)

    @asynccontextmanager
    async def serve(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
    ) -> AsyncIterator[str]:
        """Serve on a socket in the running event loop; needs the extra ``emulator``.

        Args:
            host: Address to listen on.
            port: Port; 0 takes a free one.
            ssl_certfile: Certificate chain, for https.
            ssl_keyfile: Private key of the certificate.

        Yields:
            The base URL.
        """
        # uvicorn is an extra, and importing it would block the event loop too long
        server = await asyncio.to_thread(import_module, "modelmax_async.emulator._server")
        async with server.serve(
            self.app, host=host, port=port, certfile=ssl_certfile, keyfile=ssl_keyfile
        ) as url:
            yield url + self._prefix

    def add_job(
        self,
        request_id: str | None = None,
        *,
        model: str = "veo-3",
        script: JobScript | None = None,
    ) -> str:
        """Add a job without a submit, and return its request id.

        Its clock starts now, or at the first request about it if no event loop is running.
        """
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            now = None
        script = script or self._backend.default
        return self._backend.add_job(request_id, model, script, {}, now).request_id

    def script(self, *scripts: JobScript) -> None:
        """Assign these scripts, in order, to the next submitted jobs."""
        self._backend.scripts.extend(scripts)

    def fault(
        self,
        endpoint: Endpoint,
        fault: Fault,
        *,
        times: int | None = 1,
        request_id: str | None = None,
    ) -> None:
        """Plan a fault; a request gets the first planned fault that matches it.

        Args:
            endpoint: submit, status, result, content or config.
            fault: The fault.
            times: The number of requests that get it; `None` is all of them.
            request_id: Limits the fault to requests about this job.
        """
        self._plan.add(endpoint, fault, times=times, request_id=request_id)

    def clear_faults(self) -> None:
        """Remove all planned faults."""
        self._plan.clear()

    @property
    def balance(self) -> float | None:
        """The account's balance in US dollars, see the class."""
        return self._account.balance

    @balance.setter
    def balance(self, dollars: float | None) -> None:
        self._account.balance = dollars

    def summary(self) -> str:
        """Return in words what was billed, a fact a line; call it in the event loop."""
        now = asyncio.get_running_loop().time()
        return summary(self._backend.jobs, self._backend.billed, self._account, now)

    @property
    def billed(self) -> Mapping[str, int]:
        """Billed result calls, by request id."""
        return Counter(self._backend.billed)

    @property
    def billed_total(self) -> int:
        """The number of billed result calls of all jobs."""
        return self._backend.billed.total()

    @property
    def polls(self) -> Mapping[str, int]:
        """Status calls received, by request id."""
        return Counter(self._calls["status"])

    @property
    def result_calls(self) -> Mapping[str, int]:
        """Result calls received, billed or not, by request id."""
        return Counter(self._calls["result"])

    @property
    def contents(self) -> Mapping[str, int]:
        """Content calls received, by the job's request id."""
        return Counter(self._calls["content"])

    @property
    def jobs(self) -> Mapping[str, EmulatedJob]:
        """Every job, by request id."""
        return MappingProxyType(self._backend.jobs)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if scope["type"] != "http":
            raise NotImplementedError("the emulator supports HTTP only")
        connection = Connection(scope, receive, send)
        self.in_flight += 1
        self.max_in_flight_seen = max(self.max_in_flight_seen, self.in_flight)
        try:
            body = await connection.read()
            if body is not None:
                await connection.deliver(self._handle(scope, body))
        finally:
            self.in_flight -= 1  # before the rest: the client may already send its next request
            await connection.aclose()

    def _handle(self, scope: Scope, body: bytes) -> Response:
        raw_path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        headers = read_headers(scope["headers"])
        inside = raw_path.startswith(f"{self._prefix}/")
        target = (
            route(scope["method"], raw_path.removeprefix(self._prefix)) if inside else UNKNOWN
        )
        request_id = self._backend.job_id(target)
        now = asyncio.get_running_loop().time()
        self.submits += target.endpoint == "submit"
        if request_id is not None:
            self._calls[target.endpoint][request_id] += 1
        if self._record:
            self.requests.append(
                Received(
                    endpoint=target.endpoint,
                    method=scope["method"],
                    raw_path=raw_path,
                    request_id=request_id,
                    headers=headers,
                    body=body,
                    at=now,
                )
            )
        fault = self._plan.take(target.endpoint, request_id)
        if fault is not None and not fault.processed:
            return fault.change(UNPROCESSED)
        response = self._backend.respond(target, headers, body, now)
        return response if fault is None else fault.change(response)

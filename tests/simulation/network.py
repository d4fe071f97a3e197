"""The network between the processes and the emulator, and the two kinds of way to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import attrs
import httpx

from modelmax_async.emulator import Emulator
from simulation.faults import FAULTS, Asked, Plan
from simulation.wires import Answer, Wire, ask

if TYPE_CHECKING:
    from simulation.judge import Judge
    from simulation.processes import Process
    from simulation.world import World

#: How likely one exchange of a run with network faults meets one of them.
_FAULTY = {"status": 0.12, "result": 0.5, "submit": 0.25}


@attrs.frozen
class Kind:
    """Whose transport it is, and what that means: decided here and nowhere else.

    Attributes:
        own: made by the client itself: traced, honest, kept to its timeouts.
        traces: whether it tells when byte 0 leaves.
        timely: whether it keeps the read timeout that the request carries.
        wrapped: whether it comes inside an `httpx.AsyncClient` of the caller's.
    """

    own: bool
    traces: bool = True
    timely: bool = True
    wrapped: bool = False

    @classmethod
    def drawn(cls, chance: Random, *, foreign: bool) -> Kind:
        """Return the client's own connections, or some foreign transport."""
        if not foreign:
            return cls(own=True)
        flags = [chance.random() < share for share in (0.5, 0.6, 0.4)]
        return cls(own=False, traces=flags[0], timely=flags[1], wrapped=flags[2])


class Network:
    """Carries requests, badly; knows what was sent and what was billed."""

    def __init__(self, world: World, emulator: Emulator, judge: Judge) -> None:
        self.world = world
        self.emulator = emulator
        self.judge = judge
        self.open: dict[Process, int] = {}
        self._chance = world.stream("network")
        self._faults = {
            name: fault
            for feature, faults in FAULTS.items()
            if feature in world.features
            for name, fault in faults.items()
        }

    def plan(self, kind: Kind, endpoint: str, job: str) -> Plan:
        """Draw how one exchange goes."""
        chance, plan = self._chance, Plan()
        plan.there, plan.back = chance.uniform(0.001, 0.05), chance.uniform(0.001, 0.05)
        if self.world.calm or chance.random() > _FAULTY[endpoint]:
            return plan
        barred = FAULTS["foreign"] if kind.own else {}
        names = [name for name in self._faults if name not in barred]
        if not names:
            return plan
        others = tuple(other for other in self.emulator.jobs if other != job)
        asked = Asked(endpoint, job, others, chance)
        # Mostly one at a time; a slow close beside another fault is what hides best.
        for name in chance.sample(names, min(len(names), chance.choice([1, 1, 1, 2]))):
            self._faults[name](plan, asked)
            self.world.inject(name)
            self.world.log(None, f"fault: {name} for {endpoint} of {self.world.name_of(job)}")
        return plan

    def process(self, request: httpx.Request, body: bytes) -> Answer:
        """Let the emulator act on a request, and note what that cost."""
        _, job = route(request)
        before = self.emulator.billed_total
        answer = ask(self.emulator, request, body)
        if self.emulator.billed_total > before:
            self.judge.billed(job)
        return answer

    def answered(self, request: httpx.Request, answer: Answer) -> None:
        """Note what an answer says before it is on its way."""
        endpoint, job = route(request)
        if endpoint != "submit":
            self.judge.answered(job, answer.document)

    def opened(self, process: Process, by: int) -> None:
        """Count an exchange of a process, or its end."""
        self.open[process] = self.open.get(process, 0) + by


def route(request: httpx.Request) -> tuple[str, str]:
    """Return the endpoint and the job that a request is about."""
    path = request.url.raw_path.decode("ascii").partition("?")[0]
    if request.method == "POST":
        return "submit", ""
    parts = path.split("/")
    return ("status" if parts[-1] == "status" else "result"), unquote(parts[5])


class SimulatedTransport(httpx.AsyncBaseTransport):
    """One process's way to the network."""

    def __init__(self, network: Network, process: Process, kind: Kind) -> None:
        self._network = network
        self._process = process
        self._kind = kind

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raise and trace as its kind of transport does."""
        endpoint, job = route(request)
        plan = self._network.plan(self._kind, endpoint, job)
        self._network.opened(self._process, 1)
        try:
            return await self._exchange(request, plan, endpoint, job)
        except BaseException as exc:
            self._network.opened(self._process, -1)
            if plan.wrong and isinstance(exc, httpx.TransportError):
                wrong = [httpx.ConnectTimeout, httpx.ConnectError, httpx.PoolTimeout, OSError]
                raise wrong[len(job + endpoint) % len(wrong)]("injected") from None
            raise

    async def _exchange(
        self, request: httpx.Request, plan: Plan, endpoint: str, job: str
    ) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = b"".join([part async for part in request.stream])
        seconds = request.extensions.get("timeout", {}).get("read")
        await self._connect(plan, seconds)
        for last in (not (plan.again and self._kind.traces), True):
            await self._trace(request, "send_request_headers")
            if endpoint == "result":
                self._network.judge.byte_zero(self._process, job, own=self._kind.own)
            wire = Wire(self._network, request, body, plan)
            try:
                answer = await wire.channel.get(seconds if self._kind.timely else None)
                break
            except httpx.TransportError:
                if last:
                    raise
        await self._trace(request, "receive_response_headers")
        stream = _Body(self._network, self._process, wire, plan, job)
        stream.seconds = seconds if self._kind.timely else None
        stream.paid = answer if endpoint == "result" and answer.status == 200 else None
        return httpx.Response(answer.status, headers=answer.headers, stream=stream)

    async def _connect(self, plan: Plan, seconds: float | None) -> None:
        there = plan.connect if seconds is None else min(plan.connect, seconds)
        await _sleep(there)
        if plan.refused is not None:
            raise plan.refused
        if there < plan.connect:
            raise httpx.ConnectTimeout("no connection in time")

    async def _trace(self, request: httpx.Request, step: str) -> None:
        trace = request.extensions.get("trace") if self._kind.traces else None
        if trace is not None:
            await trace(f"http11.{step}.started", {"request": request})
            await trace(f"http11.{step}.complete", {"return_value": None})


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as far as it comes."""

    seconds: float | None
    paid: Answer | None

    def __init__(
        self, network: Network, process: Process, wire: Wire, plan: Plan, job: str
    ) -> None:
        self._network = network
        self._process = process
        self._wire = wire
        self._plan = plan
        self._job = job
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts: list[bytes] = []
        while (piece := await self._wire.channel.get(self.seconds)) is not None:
            parts.append(piece)
            yield piece
        if self.paid is not None:
            self._network.judge.delivered(self._process, self._job, b"".join(parts))

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            try:
                await _sleep(0.0 if self._network.world.calm else self._plan.close)
            finally:
                self._network.opened(self._process, -1)


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def client_of(network: Network, process: Process, kind: Kind) -> dict[str, Any]:
    """Return what to pass as ``http_client``; nothing for the client's own connections."""
    transport = SimulatedTransport(network, process, kind)
    process.transport = lambda: transport
    if kind.own:
        return {}
    if kind.wrapped:
        return {"http_client": httpx.AsyncClient(transport=transport, trust_env=False)}
    return {"http_client": transport}

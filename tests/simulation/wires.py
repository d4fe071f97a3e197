"""The far side of an exchange: the request on its way, the emulator, the answer's bytes.

It belongs to the world. A client that is cancelled, paused or killed does not stop it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs
import httpx

from modelmax_async.emulator import Emulator

if TYPE_CHECKING:
    from simulation.faults import Plan
    from simulation.network import Network


#: Seconds between two things that arrive one after the other: timers due at once have no order.
_NEXT = 1e-6


@attrs.frozen
class Answer:
    """A whole answer of the server, before the network carries it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON object, or an empty one."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def saying(self, **fields: Any) -> Answer:
        """Return it with other fields in its JSON."""
        return attrs.evolve(self, body=json.dumps(self.document | fields).encode())


def ask(emulator: Emulator, request: httpx.Request, body: bytes) -> Answer:
    """Have the emulator process a request. It answers without waiting for anything."""
    came: list[Any] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        came.append(message)

    scope = {
        "type": "http",
        "method": request.method,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "state": {},
    }
    handling = emulator.app(scope, receive, send)
    try:
        handling.send(None)
    except StopIteration:
        pass
    else:  # pragma: no cover - it would wait for nobody
        raise AssertionError("the emulator waits: leave its own faults alone here")
    head, *parts = came
    given = [(k.decode(), v.decode("latin-1")) for k, v in head["headers"]]
    fields = tuple(field for field in given if field[0] != "content-length")
    return Answer(head["status"], fields, b"".join(part["body"] for part in parts))


class Channel:
    """What arrives at the client's side: a head, pieces of the body, the end or a break."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._news = asyncio.Event()

    def put(self, item: Any) -> None:
        """Let the client see the next thing: `None` is the end."""
        self._items.append(item)
        self._news.set()

    async def get(self, seconds: float | None) -> Any:
        """Wait for the next thing; what broke the exchange is raised, and stays.

        Raises:
            httpx.ReadTimeout: nothing came for so long.
        """
        if not self._items:
            try:
                async with asyncio.timeout(seconds):
                    while not self._items:
                        self._news.clear()
                        await self._news.wait()
            except TimeoutError:
                raise httpx.ReadTimeout(f"no answer within {seconds} s") from None
        if isinstance(self._items[0], Exception):
            raise self._items[0]
        return self._items.popleft()


class Wire:
    """One request under way, and its answer."""

    def __init__(
        self, network: Network, request: httpx.Request, body: bytes, plan: Plan
    ) -> None:
        self._network = network
        self._request = request
        self._body = body
        self._plan = plan
        self.channel = Channel()
        network.world.later(plan.there, self._arrive)

    def _arrive(self) -> None:
        plan = self._plan
        answer = None
        if plan.processed:
            answer = self._network.process(self._request, self._body)
        if plan.change is not None:
            answer = plan.change(answer)
        if answer is not None:
            self._network.answered(self._request, answer)
        if answer is None or (plan.cut is not None and plan.cut < 0):
            self._network.world.later(plan.back, self.channel.put, plan.broken())
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        plan, later = self._plan, self._network.world.later
        later(plan.back, self.channel.put, answer)
        whole = plan.cut is None or plan.cut >= len(answer.body)
        body = answer.body if whole else answer.body[: plan.cut]
        size = max(1, -(-len(body) // plan.pieces))
        at = plan.back
        for start in range(0, len(body), size):
            at += plan.gap + _NEXT
            later(at, self.channel.put, body[start : start + size])
        later(at + _NEXT, self.channel.put, None if whole else plan.broken())

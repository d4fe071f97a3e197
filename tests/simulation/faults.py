"""What a network can do to one exchange. Each fault is a function with a name of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from email.utils import formatdate
from random import Random
from typing import Any

import attrs
import httpx

from simulation.processes import EPOCH
from simulation.wires import Answer

Change = Callable[[Answer | None], Answer | None]


@attrs.define
class Plan:
    """How one exchange goes; without a fault, as it should.

    Attributes:
        connect: seconds until there is a connection.
        refused: what happens instead of a connection.
        there: seconds until the server has the request.
        processed: whether the server acts on it.
        change: what becomes of the answer (`None` when nothing was processed).
        back: seconds until the head of the answer is here.
        pieces: how many pieces the body comes in, and ``gap``, the seconds between them.
        cut: after how many bytes of the body the connection breaks; below 0: before the head.
        close: seconds that closing the response takes.
        again: whether a foreign transport sends the request a second time when it breaks.
        wrong: whether a foreign transport raises an error of the wrong class.
    """

    connect: float = 0.001
    refused: Exception | None = None
    there: float = 0.01
    processed: bool = True
    change: Change | None = None
    back: float = 0.01
    pieces: int = 1
    gap: float = 0.0
    cut: int | None = None
    close: float = 0.0
    again: bool = False
    wrong: bool = False

    def broken(self) -> Exception:
        """Return what the client's HTTP library raises when the connection ends early."""
        if self.cut is None or self.cut < 0:
            return httpx.RemoteProtocolError("Server disconnected without sending a response.")
        text = "peer closed connection without sending complete message body"
        return httpx.RemoteProtocolError(f"{text} (incomplete read)")


@attrs.frozen
class Asked:
    """What a fault may look at: the endpoint, the job, other jobs, and chance."""

    endpoint: str
    job: str
    others: tuple[str, ...]
    chance: Random


Fault = Callable[[Plan, Asked], None]

_TEXT = (("content-type", "text/html"),)
_JSON = (("content-type", "application/json"),)


def _refused(plan: Plan, asked: Asked) -> None:
    plan.refused = asked.chance.choice(
        [httpx.ConnectError("connection refused"), httpx.ConnectTimeout("no connection")]
    )
    plan.connect = asked.chance.choice([0.001, 1.0, 12.0])


def _slow_connection(plan: Plan, asked: Asked) -> None:
    plan.connect = asked.chance.uniform(0.5, 14.0)


def _dropped_before(plan: Plan, asked: Asked) -> None:
    plan.processed, plan.change, plan.cut = False, None, -1
    plan.back = asked.chance.choice([0.01, 3.0])


def _dropped_after(plan: Plan, asked: Asked) -> None:
    plan.cut = -1
    plan.back = asked.chance.choice([0.01, 3.0])


def _truncated(plan: Plan, asked: Asked) -> None:
    plan.cut = asked.chance.choice(
        [0, 1, asked.chance.randrange(120), asked.chance.randrange(400)]
    )


def _garbled(plan: Plan, asked: Asked) -> None:
    def change(answer: Answer | None) -> Answer | None:
        if answer is None or not answer.body:
            return answer
        at = asked.chance.randrange(len(answer.body))
        bodies = [
            b"",
            b"{not json",
            answer.body[:at],
            answer.body[:at] + b"\xff" + answer.body[at + 1 :],
            answer.saying(data=[]).body,
            b"<html>busy</html>",
        ]
        body = asked.chance.choice(bodies)
        return Answer(200, answer.headers, body)

    plan.change = change


def _late(plan: Plan, asked: Asked) -> None:
    """The answer comes when everybody has given up, or nearly."""
    plan.back = asked.chance.choice([4.0, 9.0, 11.0, 30.0, 90.0])


def _held_up(plan: Plan, asked: Asked) -> None:
    """The request reaches the server late: the bill is written after the client left."""
    plan.there = asked.chance.choice([3.0, 9.0, 30.0, 90.0])


def _dripping(plan: Plan, asked: Asked) -> None:
    plan.pieces = asked.chance.choice([2, 5, 20])
    plan.gap = asked.chance.choice([0.01, 0.5, 1.5, 4.0])


def _documented_error(plan: Plan, asked: Asked) -> None:
    """An error with the documented body, which tells the truth about the bill."""
    status = asked.chance.choice([400, 401, 402, 403, 404, 429, 429, 500, 502, 503, 503, 504])
    plan.processed = status in {500, 504} and asked.chance.random() < 0.5
    body = json.dumps({"error": {"message": "injected", "type": "injected"}}).encode()
    plan.change = _instead(Answer(status, _JSON + _retry_after(status, asked.chance), body))


def _gateway_page(plan: Plan, asked: Asked) -> None:
    """A gateway's page, or a redirect: whether the server acted is anybody's guess."""
    status = asked.chance.choice([302, 400, 403, 404, 429, 500, 502, 503, 504])
    plan.processed = asked.chance.random() < 0.6
    page = b"<html><body>gateway</body></html>"
    plan.change = _instead(Answer(status, _TEXT + _retry_after(status, asked.chance), page))


def _retry_after(status: int, chance: Random) -> tuple[tuple[str, str], ...]:
    if status not in {429, 503} or chance.random() < 0.5:
        return ()
    dates = ["Tue, 14 Nov 2023 22:14:20 GMT", "soon"]
    # The server's clock is right, and it says so: no client has to believe its own.
    date = formatdate(EPOCH + asyncio.get_running_loop().time(), usegmt=True)
    wish = chance.choice(["0", "1", "5", "20", *dates])
    return (("retry-after", wish), ("date", date))


def _instead(made: Answer) -> Change:
    return lambda _: made


def _failed_lie(plan: Plan, asked: Asked) -> None:
    """Status says FAILED, which is not so."""
    if asked.endpoint == "status":
        plan.change = lambda a: a and a.saying(status="FAILED", error="injected lie")


def _other_job(plan: Plan, asked: Asked) -> None:
    """A surplus answer on the connection: it is about another job."""
    if not asked.others or asked.endpoint == "submit":
        return  # another's whole 202 would be one's own
    other = asked.chance.choice(asked.others)
    word = asked.chance.choice(["COMPLETED", "COMPLETED", "FAILED"])
    if asked.endpoint == "status":
        fields: dict[str, Any] = {"status": word, "error": "injected: of another job"}
        plan.change = lambda a: a and a.saying(request_id=other, **fields)
    else:
        plan.change = lambda a: a and a.saying(request_id=other)


def _slow_close(plan: Plan, asked: Asked) -> None:
    plan.close = asked.chance.choice([1.0, 20.0, 120.0])


def _wrong_class(plan: Plan, asked: Asked) -> None:
    _dropped_after(plan, asked)
    plan.wrong = True


def _sent_again(plan: Plan, asked: Asked) -> None:
    _dropped_after(plan, asked)
    plan.again = True


#: By feature of a run, and then by name.
FAULTS: dict[str, dict[str, Fault]] = {
    "refusals": {"refused": _refused, "slow connection": _slow_connection},
    "drops": {
        "dropped before": _dropped_before,
        "dropped after": _dropped_after,
        "truncated": _truncated,
    },
    "garbling": {"garbled": _garbled},
    "delays": {"late": _late, "held up": _held_up, "dripping": _dripping},
    "errors": {"documented error": _documented_error},
    "gateways": {"gateway page": _gateway_page},
    "lies": {"FAILED lie": _failed_lie},
    "mixups": {"other job": _other_job},
    "slow closes": {"slow close": _slow_close},
    "foreign": {"wrong class": _wrong_class, "sent again": _sent_again},
}

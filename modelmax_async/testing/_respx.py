"""The endpoints of ModelMax's queue as routes of respx, answered by a local ModelMax."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import attrs
import httpx
import respx

from modelmax_async._api.paths import submit_path
from modelmax_async._reprs import always_shown
from modelmax_async.testing._modelmax import ModelMax

_QUEUE = submit_path("") + "[^/?]+"
_REQUESTS = f"{_QUEUE}/requests/"
_CONTENT = r"/content/[^/?]+$"


@always_shown
@attrs.frozen
class QueueRoutes:
    """The routes that `queue_routes` added: assert on their ``called`` and ``calls``.

    Attributes:
        submit: the submits, which are never billed (API §1).
        status: the status calls, which are never billed (API §2).
        result: the result calls, which are billed (API §3).
        content: the downloads (API §4).
        modelmax: the local ModelMax that answers: it scripts jobs and counts the bills.
    """

    submit: respx.Route
    status: respx.Route
    result: respx.Route
    content: respx.Route
    modelmax: ModelMax


def queue_routes(
    router: respx.Router,
    modelmax: ModelMax | None = None,
    *,
    base_url: str = "https://api.modelmax.io",
) -> QueueRoutes:
    """Add the endpoints of the queue to a respx router, answered by a local ModelMax.

    A route can be changed as any of respx: ``routes.status.respond(502)``. Give
    ``respx.mock(…)`` the argument ``assert_all_called=False`` if a test does not use all
    routes: if it does not download a video, for example.

    Args:
        router: such as ``respx.mock`` or the fixture ``respx_mock``.
        modelmax: what answers; by default a new `ModelMax` that accepts any API key.
        base_url: the base URL of the client under test.

    Returns:
        The routes, and the ModelMax behind them.
    """
    server = modelmax or ModelMax(api_key=None, base_path=urlsplit(base_url).path)
    answer = _answers_of(server)

    def add(method: str, path: str, name: str) -> respx.Route:
        pattern = f"^{re.escape(base_url.rstrip('/'))}{path}"
        route = router.request(method, url__regex=pattern, name=f"modelmax {name}")
        return route.mock(side_effect=answer)

    return QueueRoutes(
        submit=add("POST", f"{_QUEUE}$", "submit"),
        status=add("GET", rf"{_REQUESTS}.+/status$", "status"),
        content=add("GET", rf"{_REQUESTS}.+{_CONTENT}", "content"),
        result=add("GET", rf"{_REQUESTS}(?!.+(/status|{_CONTENT})).+$", "result"),
        modelmax=server,
    )


def _answers_of(modelmax: ModelMax) -> Callable[[httpx.Request], Awaitable[httpx.Response]]:
    """Return a side effect for routes, which lets a local ModelMax answer."""
    transport = modelmax.transport()

    async def answer(request: httpx.Request) -> httpx.Response:
        response = await transport.handle_async_request(request)
        body = b"".join([part async for part in response.aiter_raw()])
        return httpx.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=httpx.ByteStream(body),
            request=request,
        )

    return answer


for _public in (QueueRoutes, queue_routes):
    _public.__module__ = "modelmax_async.testing"


QueueRoutes.__module__ = queue_routes.__module__ = "modelmax_async.testing"

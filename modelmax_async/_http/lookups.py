"""Look-ups of host names, in threads of the client's own.

The event loop would use its default executor, which belongs to the application: a few dozen
names whose servers do not answer would fill it. A look-up cannot be stopped. So it runs in a
daemon thread, and is left alone once its time is up; until it ends, it counts against the
limit, and whoever looks for the same name waits for that one.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import httpx

from modelmax_async._http.addresses import Choice, RefusedError, in_turns, is_address
from modelmax_async._runtime.threads import result_of

_Found = list[str] | OSError


class Lookups:
    """The look-ups of one client.

    At most ``most`` names are looked up at once, and a further one waits. The names of the
    configuration (the base URL's, a proxy's), which are few, are counted apart: they do not
    wait for the names that a response contains. A caller waits at most ``seconds``. Nothing is
    cached.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._trusted: dict[str, Future[_Found]] = {}
        self._others: dict[str, Future[_Found]] = {}

    async def addresses(self, host: str, *, trusted: bool) -> Sequence[str]:
        """Return the IP addresses of a host, those to try first in front.

        ``trusted`` is whether the configuration names the host, and not a response.

        Raises:
            httpx.ConnectError: if it has none.
            httpx.ConnectTimeout: if that is not known in time.
        """
        if is_address(host):
            return [host]
        running = self._trusted if trusted else self._others
        try:
            async with asyncio.timeout(self._seconds):
                while host not in running and len(running) >= self._most:
                    await _any_of(list(running.values()))
                found = await result_of(running.get(host) or _start(host, running))
        except TimeoutError:
            text = f"the look-up of {host} took more than {self._seconds:g} seconds"
            raise httpx.ConnectTimeout(text) from None
        if isinstance(found, OSError):
            raise httpx.ConnectError(str(found))
        if not found:
            raise httpx.ConnectError(f"{host} has no address")
        return found


class Known:
    """The addresses of one host that were looked up and checked, or why it has none."""

    def __init__(self, found: Sequence[str], error: Exception | None = None) -> None:
        self._found = found
        self._error = error

    @classmethod
    async def of(
        cls, host: str, lookups: Lookups, choose: Choice, seconds: float | None
    ) -> Known:
        """Look a host up that a response names, for ``seconds`` at most; raise nothing."""
        try:
            async with asyncio.timeout(seconds):
                return cls(choose(await lookups.addresses(host, trusted=False)))
        except RefusedError as exc:
            return cls((), RefusedError(str(exc)))
        except httpx.ConnectTimeout as exc:
            return cls((), httpx.ConnectTimeout(str(exc)))
        except TimeoutError:
            text = f"{host} was not reached in {seconds:g} seconds"
            return cls((), httpx.ConnectTimeout(text))
        except Exception as exc:  # noqa: BLE001 - whatever broke it, no connection is made
            return cls((), httpx.ConnectError(str(exc)))

    async def addresses(self, host: str, *, trusted: bool) -> Sequence[str]:  # noqa: ARG002 - as `Lookups`
        """Return the addresses, or raise the error of the look-up."""
        if self._error is not None:
            raise type(self._error)(str(self._error))  # no cycle of the error and this frame
        return self._found


def _start(host: str, running: dict[str, Future[_Found]]) -> Future[_Found]:
    """Look a host up in a new thread, and list it as running until it has ended."""
    promise: Future[_Found] = Future()
    promise.set_running_or_notify_cancel()  # from here on, no caller can cancel it
    work = threading.Thread(
        target=_look_up, args=(host, promise), name="modelmax-lookup", daemon=True
    )
    work.start()
    running[host] = promise
    promise.add_done_callback(lambda _: running.pop(host, None))
    return promise


def _look_up(host: str, promise: Future[_Found]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        promise.set_result(in_turns([str(entry[4][0]) for entry in found]))
    except OSError as exc:
        promise.set_result(exc.with_traceback(None))
    except ValueError:  # for a label that is empty or too long
        promise.set_result(OSError(f"{host[:100]!r} is not a host name"))
    except BaseException as exc:  # noqa: BLE001 - a caller waits for it
        promise.set_exception(exc)


async def _any_of(promises: Sequence[Future[_Found]]) -> None:
    """Wait until one of them has ended."""
    ended = [asyncio.wrap_future(promise) for promise in promises]
    await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)

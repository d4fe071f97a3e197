"""Run the emulator as a process: `python -m modelmax_async.emulator --port 8080`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from modelmax_async.emulator._app import Emulator
from modelmax_async.emulator._jobs import JobScript

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; the first line printed is the base URL."""
    parser = argparse.ArgumentParser(
        prog="python -m modelmax_async.emulator", description="A local ModelMax."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a job takes")
    parser.add_argument("--key", default="sk-emulator", help="the API key to accept")
    asyncio.run(_run(parser.parse_args(argv)))


async def _run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    script = JobScript(queue_seconds=options.seconds / 4, run_seconds=options.seconds * 3 / 4)
    emulator = Emulator(api_key=options.key, script=script, record=False)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:  # wakes the loop, whichever thread the signal reaches
        loop.add_signal_handler(number, stop.set)
    try:
        async with emulator.serve(host=options.host, port=options.port) as url:
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            await stop.wait()
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


if __name__ == "__main__":
    main()

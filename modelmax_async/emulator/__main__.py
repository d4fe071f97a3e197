"""Run the emulator as a process: `python -m modelmax_async.emulator --port 8080`."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
from typing import TYPE_CHECKING

from modelmax_async.emulator._app import Emulator
from modelmax_async.emulator._jobs import JobScript

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SEEDS = 2**31  # seeds that are chosen at random are shorter than this


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; print the base URL first and the billing summary last."""
    parser = argparse.ArgumentParser(
        prog="python -m modelmax_async.emulator",
        description="A local ModelMax. It prints its base URL first, and what it billed last.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="port; 0 takes a free one")
    add("--seconds", type=float, default=2.0, help="how long a job takes")
    add("--key", default="sk-emulator", help="the API key to accept")
    add("--fail-rate", type=float, default=0.0, help="the share of jobs that fail, 0 to 1")
    add("--seed", type=int, help="of the request ids, and of which jobs fail; else random")
    add("--balance", type=float, help="dollars of the account; else it has no limit")
    add("--price", type=float, default=1.0, help="dollars that a billed call costs (invented)")
    options = parser.parse_args(argv)
    if options.seed is None:  # ids that an earlier run has used may be in the client's ledger
        options.seed = random.randrange(_SEEDS)  # noqa: S311 - it is printed, and no secret
    try:
        emulator = _emulator(options)
    except ValueError as error:
        parser.error(str(error))
    asyncio.run(_run(emulator, options))


def _emulator(options: argparse.Namespace) -> Emulator:
    queue, run = options.seconds / 4, options.seconds * 3 / 4
    return Emulator(
        api_key=options.key,
        script=JobScript(queue_seconds=queue, run_seconds=run),
        seed=options.seed,
        fail_rate=options.fail_rate,
        balance=options.balance,
        price=options.price,
        record=False,
    )


async def _run(emulator: Emulator, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:  # wakes the loop, whichever thread the signal reaches
        loop.add_signal_handler(number, stop.set)
    try:
        async with emulator.serve(host=options.host, port=options.port) as url:
            _print(url)
            await stop.wait()
        _print(f"{emulator.summary()}\nseed: {options.seed}")
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _print(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader wanted the URL only: flush nothing at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

"""What the local server counts, and when its jobs are done."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import Any


class Books:
    """The options of the server, and its counters since the last reset."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)  # never reset: an id is used once
        self.reset({})

    def reset(self, options: dict[str, str]) -> None:
        """Reset the counters, and start all durations now.

        Options: ``latency`` (seconds before each response), ``every`` (every n-th status call
        gets a 429), ``rate`` (status calls above this many per second get a 429),
        ``retry_after`` (seconds in the ``Retry-After`` of a 429; no such header by default).
        """
        self.start = time.monotonic()
        self.latency = float(options.get("latency", 0))
        self.every = int(options.get("every", 0))
        self.rate = float(options.get("rate", 0))
        self.retry_after = options.get("retry_after", "")
        self.calls: Counter[str] = Counter()
        self.bills: Counter[bytes] = Counter()
        self.polls: Counter[bytes] = Counter()
        self.seen: dict[bytes, float] = {}
        self.out = self.most_out = self.billed_out = self.most_billed_out = 0
        self.polls_this_second, self.second = 0, 0

    def stats(self) -> dict[str, Any]:
        """Return the counters as a JSON object."""
        return {
            **{name: self.calls[name] for name in ("status", "result", "submit", "refused")},
            "billed": self.bills.total(),
            "billed_jobs": len(self.bills),
            "most_in_flight": self.most_out,
            "most_billed_in_flight": self.most_billed_out,
            "connections": self.calls["connection"],
            "start": self.start,
            "now": time.monotonic(),
            "cpu": time.process_time(),
        }

    def jobs(self) -> dict[str, Any]:
        """Return the polls of each job, and when one first said that it was done."""
        return {
            request_id.decode(): [polls, self.seen.get(request_id)]
            for request_id, polls in self.polls.items()
        }

    def bills_of_jobs(self) -> dict[str, int]:
        """Return how often each job was billed, without those that were not."""
        return {request_id.decode(): bills for request_id, bills in self.bills.items()}

    def new_id(self, prompt: str) -> str:
        """Return the id of a new job."""
        number = next(self.numbers)
        if not prompt.isdecimal():
            return f"never-{number}"
        age = (time.monotonic() - self.start) * 1000
        return f"{age + int(prompt):.0f}-{number}"

    def is_done(self, request_id: bytes) -> bool:
        """Whether the job is done."""
        when, _, _ = request_id.partition(b"-")
        return when != b"never" and time.monotonic() - self.start >= int(when) / 1000

    def poll(self, request_id: bytes) -> bool:
        """Count a poll, and return whether the job is done."""
        self.polls[request_id] += 1
        done = self.is_done(request_id)
        if done:
            self.seen.setdefault(request_id, time.monotonic())
        return done

    def refuses(self) -> bool:
        """Whether this status call gets a 429."""
        if self.every and self.calls["status"] % self.every == 0:
            return True
        if not self.rate:
            return False
        second = int(time.monotonic())
        if second != self.second:
            self.second, self.polls_this_second = second, 0
        self.polls_this_second += 1
        return self.polls_this_second > self.rate

"""The billing summary that the emulator's process prints at its end."""

from collections import Counter
from collections.abc import Mapping

from modelmax_async.emulator._account import Account
from modelmax_async.emulator._jobs import EmulatedJob


def summary(
    jobs: Mapping[str, EmulatedJob], billed: Mapping[str, int], account: Account, now: float
) -> str:
    """Return what was billed, one fact a line; `now` is the loop time."""
    ends = Counter(job.peek(now) for job in jobs.values())
    completed, failed = ends["COMPLETED"], ends["FAILED"]
    calls = {request_id: count for request_id, count in billed.items() if count}
    twice = {request_id: count for request_id, count in calls.items() if count > 1}
    running = len(jobs) - completed - failed
    lines = [
        f"jobs: {len(jobs)} ({completed} completed, {failed} failed, {running} not ended)",
        f"billed calls: {sum(calls.values())}",
        f"completed, and not billed: {_unbilled(jobs, calls, now)}",
        f"billed more than once: {len(twice)}",
        *(f"  {request_id}: {count} calls" for request_id, count in twice.items()),
    ]
    if account.balance is not None:
        spent = sum(calls.values()) * account.price
        lines.append(f"spent: ${spent:.2f} (${account.price:.2f} for each billed call)")
        lines.append(f"balance: ${account.balance:.2f}".replace("$-", "-$"))
    return "\n".join(lines)


def _unbilled(jobs: Mapping[str, EmulatedJob], calls: Mapping[str, int], now: float) -> int:
    ended = (name for name, job in jobs.items() if job.peek(now) == "COMPLETED")
    return sum(name not in calls for name in ended)

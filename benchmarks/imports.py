"""The time of ``import modelmax_async`` compared with ``import httpx``.

Each import runs in a new process, in turns. If click and rich are installed, httpx also imports
its command line. That slows httpx down and would flatter this package, so both cases are
measured, and only the one without click and rich is checked.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from typing import Any

from benchmarks._local import ROOT
from benchmarks._report import Check, Report, table

_CODE = """
import sys, time
for hidden in {hidden!r}:
    sys.modules[hidden] = None  # importing it fails, as if it were not installed
begun = time.perf_counter()
{statement}
print(time.perf_counter() - begun)
"""
_STATEMENTS = (
    "import httpx",
    "import modelmax_async",
    "from modelmax_async import AsyncQueueClient",
)
_WAYS = {"without click, rich": ("click", "rich", "pygments"), "as installed": ()}


def _seconds(statement: str, hidden: tuple[str, ...]) -> float:
    code = _CODE.format(statement=statement, hidden=hidden)
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


def run(*, quick: bool = False) -> Report:
    """Time each import repeatedly, in turns."""
    rows: list[dict[str, Any]] = []
    for way, hidden in _WAYS.items():
        turns = [
            [_seconds(statement, hidden) for statement in _STATEMENTS]
            for _ in range(6 if quick else 26)
        ][1:]  # the first turn may compile bytecode
        for column, statement in enumerate(_STATEMENTS):
            row = {
                "way": way,
                "statement": statement,
                "seconds": statistics.median(turn[column] for turn in turns),
                "ratio": statistics.median(turn[column] / turn[0] for turn in turns),
            }
            rows.append(row)
    text = table(
        ("", "statement", "ms", "x httpx"),
        [
            (r["way"], r["statement"], f"{r['seconds'] * 1000:.0f}", f"{r['ratio']:.2f}")
            for r in rows
        ],
    )
    checks = [
        Check(f"{row['statement']}, x httpx", row["ratio"], "<=", 1.3)
        for row in rows[1 : len(_STATEMENTS)]
    ]
    return Report("imports", rows, text, checks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(quick=parser.parse_args().quick).show()

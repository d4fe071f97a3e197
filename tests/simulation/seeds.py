"""Seeds that found something, kept as tests.

A seed replays exactly as long as neither the package nor the simulation changes. Afterwards it
is one more world like any other, so that what it found also has a test of its own elsewhere.
"""

from __future__ import annotations

SEEDS_THAT_FOUND_SOMETHING: dict[int, str] = {
    2: "the answer to another job's call was served as a result",
    11: "a cancelled decision went on, and paid",
    50: "a clock set forward made a healthy call look dead",
    57: "as_completed() begun before closing and iterated after it never ended",
    72: "a ConnectTimeout of a foreign transport was taken for proof that nothing was sent",
    134: "a whole paid answer was dropped while its response was being closed",
    164: "a waiter with the wrong model failed the others",
    169: "an uncertain job became failed by what another waiter saw",
    180: "a lease of a clock that was ahead stranded a job",
    226: "a visit cancelled before its first step kept its slot",
    430: "a decision paid over an answer that was stored in between",
    483: "a process that had stood still sent byte 0 after its lease",
}

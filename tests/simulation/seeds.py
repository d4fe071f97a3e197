"""Seeds that found something, kept as tests.

A seed replays exactly as long as neither the package nor the simulation changes. Afterwards it
is one more world like any other, so that what it found also has a test of its own elsewhere.
"""

from __future__ import annotations

SEEDS_THAT_FOUND_SOMETHING: dict[int, str] = {
    1: "a clock set forward made a healthy call look dead",
    4: "a process that had stood still sent byte 0 after its lease",
    19: "a waiter with the wrong model failed the others",
    32: "as_completed() begun before closing and iterated after it never ended",
    42: "a whole paid answer was dropped while its response was being closed",
    43: "a cancelled decision went on, and paid",
    47: "the answer to another job's call was served as a result",
    55: "an answer about another job made a good one failed",
    62: "a visit cancelled before its first step kept its slot",
    91: "an unreadable answer that was not saved yet stood in the way of a decision",
    106: "an uncertain job became failed by what another waiter saw",
    119: "a lease of a clock that was ahead stranded a job",
    179: "a ConnectTimeout of a foreign transport was taken for proof that nothing was sent",
    757: "a late unreadable answer kept a good one out",
    793: "a decision paid over an answer that was stored in between",
    10: "a FAILED status hid that the owner of a call was gone",
    1172: "a ledger that hangs held up closing",
    3079: "whoever cancelled all tasks twice left a paid answer unsaved, and the client open",
    2117: "a Retry-After date was read by a clock that was two hours behind",
}

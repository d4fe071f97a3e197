"""The kinds of stores that a run may have, and each process's handle on one."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, cast

from simulation.judge import Judge
from simulation.ledgers import FlakyLedger, Handle
from simulation.postgres_handle import PostgresHandle
from simulation.postgres_server import PostgresStore
from simulation.stores import LOCAL, SIMPLE, Shared, Store

if TYPE_CHECKING:
    from simulation.processes import Process
    from simulation.world import World

POSTGRES = "postgres"
#: By name; a new ledger is one more line, with what is to stand for its server.
STORES: dict[str, Callable[[], Shared]] = {**SIMPLE, POSTGRES: PostgresStore}
#: What draws the kind of a world's store.
Draw = Callable[["World", Random], str]


def drawn_store(world: World, chance: Random) -> str:
    """Draw a kind of store. The simple ones are drawn as if there were no other."""
    simple = chance.choice(sorted(SIMPLE))
    return POSTGRES if world.stream("store").random() < 1 / 3 else simple


def simple_store(world: World, chance: Random) -> str:
    """Draw a kind of store in which a move is one piece of work."""
    return chance.choice(sorted(SIMPLE))


def postgres_store(world: World, chance: Random) -> str:
    """Have a PostgreSQL server."""
    simple_store(world, chance)
    return POSTGRES


def open_ledger(
    world: World, process: Process, kind: str, store: Shared, judge: Judge
) -> Handle:
    """Return a process's ledger over what it shares with others."""
    if isinstance(store, PostgresStore):
        return PostgresHandle(world, process, store, judge)
    return FlakyLedger(world, process, cast(Store, store), judge, local=kind in LOCAL)

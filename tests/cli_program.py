"""The command line as a program that polls often, for tests that need a terminal or kill it."""

from __future__ import annotations

import functools

from support import FAST, IMPATIENT

from modelmax_async import AsyncQueueClient
from modelmax_async.__main__ import main
from modelmax_async._billing import leases
from modelmax_async._cli import options

leases.LEASE, leases.BEAT = 2.0, 0.5  # it shows soon that a killed process is gone
fast = functools.partial(AsyncQueueClient, poll=FAST, retry=IMPATIENT)
vars(options)["AsyncQueueClient"] = fast
main()

"""Usage added up over the paid results of a ledger."""

from collections.abc import Mapping

import attrs

from modelmax_async._models.value import Value


@attrs.frozen(kw_only=True)
class ModelUsage(Value):
    """The usage of one model's paid results, as a part of `LedgerUsage`.

    Attributes:
        results: how many results were counted.
        videos: how many videos they list.
        seconds: the sum of their `Usage.video_seconds`.
    """

    results: int = 0
    videos: int = 0
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class LedgerUsage(Value):
    """Usage added up over the paid results of a ledger, from `AsyncQueueClient.usage`.

    Each job counts once: a second charge that you accepted is not added. ``results`` counts the
    results that can still be read; the fields after ``by_model`` say what is missing from it.

    Attributes:
        results: how many paid results were counted.
        videos: how many videos they list.
        seconds: the sum of their `Usage.video_seconds`, as the server states it for each result
            (API §3). Whether that is for each video or for all of them is not documented.
        by_model: the same for each model, by the name that the result states.
        unmetered: how many of the results state no seconds, and add none.
        unreadable: paid results that could not be understood, and are not in ``results``.
        dropped: paid results whose body is no longer in the ledger, after `prune` or in a full
            `MemoryLedger`, and are not in ``results``.
        uncertain: jobs that may have been charged without a result: those of `unresolved`,
            those of them that were given up with `forget`, and calls in progress.
    """

    results: int = 0
    videos: int = 0
    seconds: float = 0.0
    by_model: Mapping[str, ModelUsage] = attrs.field(factory=dict, hash=False)
    unmetered: int = 0
    unreadable: int = 0
    dropped: int = 0
    uncertain: int = 0

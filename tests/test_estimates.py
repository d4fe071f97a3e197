"""The estimates of one model: several bases together, and what is on its way to the ledger."""

from __future__ import annotations

import pytest

from modelmax_async._polling.estimates import LearntModel
from modelmax_async._polling.learnt import Learnt
from modelmax_async._polling.observation import Basis

BOTH = (Basis.SUBMITTED, Basis.SUBMITTED_VIA_QUEUE)


def learnt_model(immediate: int, queued: int) -> LearntModel:
    """Return what is learnt from jobs that skip the queue, and from jobs that do not."""
    model = LearntModel("veo-3")
    for _ in range(immediate):
        model.ended(Basis.SUBMITTED, 14.0, 15.0)
    for _ in range(queued):
        model.alive(Basis.SUBMITTED_VIA_QUEUE, 5.0, 114.0)
        model.ended(Basis.SUBMITTED_VIA_QUEUE, 114.0, 115.0)
    return model


def test_jobs_of_one_basis_make_none_of_another_fade() -> None:
    model = learnt_model(immediate=50, queued=100)
    apart = [model.overall([basis]).jobs for basis in BOTH]

    assert sum(apart) == pytest.approx(model.overall(BOTH).jobs)


def test_estimate_includes_what_is_being_written() -> None:
    model = learnt_model(immediate=5, queued=0)
    before = model.overall(BOTH)
    model.send()
    during = model.overall(BOTH)
    model.not_sent(5)
    back = model.overall(BOTH)

    assert before.jobs == pytest.approx(during.jobs, rel=0.02)
    assert before.jobs == pytest.approx(back.jobs, rel=0.02)


def test_what_was_written_is_replaced_by_what_the_ledger_holds() -> None:
    model = learnt_model(immediate=5, queued=0)
    model.send()
    model.sent(Learnt())

    assert 0 == model.overall(BOTH).jobs

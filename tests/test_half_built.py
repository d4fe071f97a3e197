"""An object whose constructor has failed can be shown, as tools for tracebacks do."""

from __future__ import annotations

import enum
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import modelmax_async
from modelmax_async import (
    Job,
    VideoParameters,
    emulator,
    events,
    ledger,
    opentelemetry,
    testing,
)
from modelmax_async._reprs import always_shown

PUBLIC = [modelmax_async, emulator, events, ledger, opentelemetry, testing]


def classes() -> dict[str, type]:
    """Return the public classes, and the others that have a repr of their own."""
    found: dict[str, type] = {}
    for home in PUBLIC:
        values = (getattr(home, name) for name in home.__all__)
        found |= {each.__name__: each for each in values if isinstance(each, type)}
    for module in pkgutil.walk_packages(modelmax_async.__path__, "modelmax_async."):
        if module.name.endswith("__main__"):
            continue
        for each in vars(importlib.import_module(module.name)).values():
            own = isinstance(each, type) and each.__module__ == module.name
            if own and "__repr__" in vars(each) and not hasattr(each, "__attrs_attrs__"):
                found[each.__name__] = each
    return {
        name: each
        for name, each in found.items()
        if not issubclass(each, enum.Enum | str | list)
    }


@pytest.mark.parametrize("kind", classes().values(), ids=classes())
def test_object_that_is_not_initialized_has_a_repr(kind: type) -> None:
    made = kind.__new__(kind, *_arguments(kind))
    if kind is testing.VirtualTimeLoop:
        vars(made)["_closed"] = True  # the base class's finalizer reads it

    assert kind.__name__ in repr(made)
    assert str(made) is not None


def _arguments(kind: type) -> Iterator[Any]:
    """Return what ``__new__`` itself needs."""
    if issubclass(kind, BaseExceptionGroup):
        return iter(["message", [ValueError("x")]])
    return iter(getattr(kind, "_fields", ()))


def test_value_that_was_refused_half_way_has_a_repr() -> None:
    with pytest.raises(ValueError, match="image must be") as caught:
        VideoParameters(image=5)  # type: ignore[arg-type]  # the mistake
    frame: Any = caught.value.__traceback__
    shown = []
    while frame is not None:
        shown += [repr(value) for value in frame.tb_frame.f_locals.values()]
        frame = frame.tb_next

    assert "<VideoParameters: not initialized>" in shown


def test_whole_object_has_the_repr_of_its_class() -> None:
    @always_shown
    class Thing:
        def __repr__(self) -> str:
            """Show it."""
            return "a thing"

    assert ("a thing", "Show it.") == (repr(Thing()), Thing.__repr__.__doc__)
    assert "Job(model='veo-3', request_id='reef'" in repr(Job("veo-3", "reef"))

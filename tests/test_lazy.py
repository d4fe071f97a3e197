"""What is loaded only at its first use, and what is not searched for again."""

from __future__ import annotations

import subprocess
import sys

import pytest

import modelmax_async
from modelmax_async._http import absent


def _modules_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 - the program is the line above
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    return set(done.stdout.split())


def test_errors_and_values_do_not_load_the_client() -> None:
    loaded = _modules_after("from modelmax_async import Job, JobFailedError")

    assert set() == loaded & {"httpx", "asyncio", "sqlite3", "modelmax_async._client"}


def test_public_modules_are_attributes() -> None:
    program = "import modelmax_async; modelmax_async.ledger.SQLiteLedger"

    assert "modelmax_async.ledger" in _modules_after(program)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Client'"):
        modelmax_async.Client  # type: ignore[attr-defined]  # noqa: B018 - it is the point


def test_absent_module_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "no_such_module_anywhere"
    monkeypatch.delitem(sys.modules, name, raising=False)
    absent.remember_absent(name)
    monkeypatch.setattr(sys, "path", None)  # a search would fail on this

    with pytest.raises(ModuleNotFoundError):
        __import__(name)
    sys.modules.pop(name)


def test_module_that_is_there_stays_importable() -> None:
    absent.remember_absent("colorsys")

    assert __import__("colorsys") is sys.modules["colorsys"]


@pytest.mark.parametrize("name", ["emulator", "events", "ledger", "testing"])
def test_public_module_is_loaded_at_its_first_use(name: str) -> None:
    load = vars(modelmax_async)["__getattr__"]

    assert load(name) is sys.modules[f"modelmax_async.{name}"]

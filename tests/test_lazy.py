"""What is loaded only at its first use, and what is not searched for again."""

from __future__ import annotations

import subprocess
import sys

import pytest

import modelmax_async


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


@pytest.mark.parametrize("name", ["emulator", "events", "ledger", "testing"])
def test_public_module_is_loaded_at_its_first_use(name: str) -> None:
    load = vars(modelmax_async)["__getattr__"]

    assert load(name) is sys.modules[f"modelmax_async.{name}"]

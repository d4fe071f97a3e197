"""The shape of the code: imports point one way, and one door leads to the billed call."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import modelmax_async

PACKAGE = Path(modelmax_async.__file__).parent
ROOT = Path(__file__).parent.parent
LINT = "from importlinter.cli import lint_imports_command as run; run()"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def _names(path: Path) -> list[str]:
    """Every name, attribute and imported name of a module, in order of appearance."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name) | ast.alias(name=name):
                found.append(name)
            case ast.Attribute(attr=name):
                found += [name, f".{name}"]
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.append(f"def {name}")
            case ast.Constant(value=str(text)):
                found.append(f"{text!r}")
    return found


def _users(name: str) -> dict[str, int]:
    """How often each module of the package uses a name."""
    counts = {
        path.relative_to(PACKAGE).as_posix(): _names(path).count(name) for path in MODULES
    }
    return {path: count for path, count in counts.items() if count}


def test_imports_point_one_way() -> None:
    done = subprocess.run(  # noqa: S603 - our own contracts
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=19,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_only_the_settler_builds_a_billed_call() -> None:
    assert {"_billing/settler.py": 2} == _users("build_result")  # an import and a call
    assert {"_api/endpoints.py": 1} == _users("def build_result")
    assert {} == _users("'build_result'")


def test_only_the_settler_sends_a_call_that_must_go_out_once() -> None:
    assert {"_billing/settler.py": 1} == _users("send_once")
    assert {"_http/client.py": 1} == _users("def send_once")
    assert {} == _users("'send_once'")


def test_path_of_the_billed_result_is_read_by_wire_and_ledger_alone() -> None:
    """Whoever reads it elsewhere could send it past the settler."""
    readers = {path for path in _users(".response_url") if not path.startswith("emulator/")}

    assert {"_api/paths.py", "ledger/columns.py"} == readers


def test_only_the_wire_writes_paths_of_the_api() -> None:
    writers = [
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if any("/v1/" in name for name in _names(path))
    ]

    assert ["_api/paths.py"] == [p for p in writers if not p.startswith("emulator/")]


def test_the_names_looked_for_are_found() -> None:
    """A scan that sees nothing would pass every test here."""

    assert len(MODULES) > 30
    assert {"_billing/settler.py", "_api/endpoints.py", "_http/client.py"} <= {
        path.relative_to(PACKAGE).as_posix() for path in MODULES
    }
    assert "_api/paths.py" in _users("response_url")

"""Every check of the project, listed once: `.ci/run` and pre-commit call these sessions.

Sessions tagged ``checks`` also run in an environment that already has the ``bench`` and
``test`` extras, without installing anything: ``nox --no-venv --no-install --tags checks``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests against the installed package, on each Python version found."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session(tags=["checks"])
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install("ruff>=0.9")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(tags=["checks"])
def types(session: nox.Session) -> None:
    """Check the types of the package, the tests and the benchmarks with mypy."""
    session.install("-e", ".[bench,test]")
    session.run("mypy")


@nox.session(tags=["checks"])
def wheel(session: nox.Session) -> None:
    """Check with pyright the types of the built wheel: complete, and right for its users."""
    session.install("-e", ".[bench,test]")
    root, place = Path.cwd(), Path(session.create_tmp()).resolve()
    pip = ("python", "-m", "pip", "--quiet")
    session.run(*pip, "wheel", "--no-deps", "--wheel-dir", str(place), str(root))
    unpack = (
        "install",
        "--no-deps",
        "--no-index",
        "--upgrade",
        "--target",
        str(place / "site"),
    )
    session.run(*pip, *unpack, *map(str, sorted(place.glob("*.whl"))))
    shutil.copy(root / "tests" / "typing" / "api.py", place)
    settings = {"extraPaths": ["site"], "include": ["api.py"]}
    (place / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    with session.chdir(place):
        session.run("pyright", "--verifytypes", "modelmax_async", "--ignoreexternal")
        session.run("pyright", "--project", ".")


@nox.session(tags=["checks"])
def layers(session: nox.Session) -> None:
    """Check with import-linter that imports point down."""
    session.install("-e", ".[test]")
    session.run("lint-imports")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the API reference in build/docs; a warning or a broken reference is an error."""
    session.install("-e", ".[docs]")
    session.run("python", "-W", "error", "docs/build.py", "build/docs")


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Run 2,000 simulations, or pass the arguments after ``--`` to the simulator."""
    session.install(".[test]")
    arguments = session.posargs or ["--seeds", "0..2000", "--jobs", "2"]
    session.run("python", "-m", "benchmarks.chaos", *arguments)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Run each fuzz test on 20,000 examples, or with the arguments after ``--``."""
    session.install(".[test]")
    tests = map(str, sorted(Path("tests").glob("test_fuzz_*.py")))
    arguments = ["--hypothesis-profile", "fuzz", "--timeout", "3600", *tests]
    session.run("pytest", *arguments, *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Run all benchmarks, or those named after ``--``."""
    session.install(".[bench,test]")
    session.run("python", "-m", "benchmarks", *session.posargs)

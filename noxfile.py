"""Every check of the project, listed once: `.ci/run` and pre-commit call these sessions.

Sessions tagged ``checks`` also run in an environment that already has the ``bench`` and
``test`` extras, without installing anything: ``nox --no-venv --no-install --tags checks``.
"""

from __future__ import annotations

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
def bench(session: nox.Session) -> None:
    """Run all benchmarks, or those named after ``--``."""
    session.install(".[bench,test]")
    session.run("python", "-m", "benchmarks", *session.posargs)

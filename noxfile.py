"""Sessions: the tests on every Python found, lint, types, layers, benchmarks."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint", "types", "layers"]


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests against the installed package, not the checkout."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style."""
    session.install("ruff>=0.9")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, those of the tests and benchmarks included."""
    session.install("-e", ".[bench,test]")
    session.run("mypy")


@nox.session
def layers(session: nox.Session) -> None:
    """Check which module imports which."""
    session.install("-e", ".[test]")
    session.run("lint-imports")


@nox.session
def chaos(session: nox.Session) -> None:
    """Simulate 2,000 worlds, or what the arguments after ``--`` say."""
    session.install(".[test]")
    asked = session.posargs or ["--seeds", "0..2000", "--jobs", "2"]
    session.run("python", "-m", "benchmarks.chaos", *asked)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks: all, or those named after ``--``."""
    session.install(".[bench,test]")
    session.run("python", "-m", "benchmarks", *session.posargs)

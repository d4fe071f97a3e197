"""Every check of the project, listed once: `.ci/run` and pre-commit call these sessions.

Sessions tagged ``checks`` also run in an environment that already has the ``bench`` and
``test`` extras, without installing anything: ``nox --no-venv --no-install --tags checks``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False

#: Fails unless the package is the installed one.
INSTALLED = """
import modelmax_async, sysconfig
assert modelmax_async.__file__.startswith(sysconfig.get_path("purelib")), modelmax_async
"""
#: What pip-audit says of a package that the index has no advisories for.
UNKNOWN = "could not be audited"


def _build(session: nox.Session, tree: Path, place: Path) -> tuple[Path, Path]:
    """Build the sdist and the wheel of a tree, with the time of the last commit if known."""
    seconds = subprocess.run(
        ["git", "log", "-1", "--format=%ct"],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    shutil.rmtree(place, ignore_errors=True)
    with session.chdir(tree):
        build = ("python", "-m", "hatchling", "build", "-d", str(place))
        session.run(*build, env={"SOURCE_DATE_EPOCH": seconds} if seconds else {}, silent=True)
    (sdist,), (wheel,) = place.glob("*.tar.gz"), place.glob("*.whl")
    return sdist, wheel


def _unpack(sdist: Path, place: Path) -> Path:
    """Unpack an sdist as another user may: with no permissions for the group or others."""
    tree = place / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(tree, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    for path in tree.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    return tree


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests against the installed wheel, without the source, on each Python found."""
    session.install("hatchling>=1.26")
    place = session.cache_dir.resolve() / session.name
    sdist, wheel = _build(session, Path.cwd(), place / "dist")
    session.install(f"{wheel}[test]")
    tree = _unpack(sdist, place)
    shutil.rmtree(tree / "modelmax_async")
    with session.chdir(tree):
        session.run("python", "-c", INSTALLED, env={"PYTHONPATH": ""})
        session.run("pytest", *session.posargs, env={"PYTHONPATH": ""})


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
    """Build sdist and wheel twice: they must be identical, and the wheel's types complete.

    They are left in build/packages.
    """
    session.install("-e", ".[bench,test]")
    root, place = Path.cwd(), Path(session.create_tmp()).resolve()
    first = _build(session, root, place / "first")
    second = _build(session, _unpack(first[0], place), place / "second")
    if [path.read_bytes() for path in first] != [path.read_bytes() for path in second]:
        session.error(f"two builds differ: compare {first[0].parent} and {second[0].parent}")
    pip = ("python", "-m", "pip", "--quiet")
    unpack = ("install", "--no-deps", "--no-index", "--upgrade", "--target")
    session.run(*pip, *unpack, str(place / "site"), str(first[1]))
    shutil.copy(root / "tests" / "typing" / "api.py", place)
    settings = {"extraPaths": ["site"], "include": ["api.py"]}
    (place / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    with session.chdir(place):
        session.run("pyright", "--verifytypes", "modelmax_async", "--ignoreexternal")
        session.run("pyright", "--project", ".")
    shutil.rmtree(root / "build" / "packages", ignore_errors=True)
    shutil.copytree(place / "first", root / "build" / "packages")


@nox.session(tags=["checks"])
def layers(session: nox.Session) -> None:
    """Check with import-linter that imports point down."""
    session.install("-e", ".[test]")
    session.run("lint-imports")


@nox.session(tags=["checks"])
def workflows(session: nox.Session) -> None:
    """Check with zizmor, offline, that no workflow can be abused."""
    session.install("zizmor>=1.24")
    session.run("zizmor", "--offline", "--pedantic", "--no-progress", ".github")


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Look for known vulnerabilities of the dependencies in PyPI's advisories."""
    session.install(".[aiohttp,cli,emulator,otel,postgres]", "pip-audit>=2.7")
    freeze = ("python", "-m", "pip", "freeze", "--exclude", "modelmax-async")
    listed = Path(session.create_tmp()).resolve() / "requirements.txt"
    listed.write_text(str(session.run(*freeze, silent=True)), "utf-8")
    whole = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "-r", str(listed))
    found = str(session.run("pip-audit", *whole, silent=True))
    session.log(found)
    if UNKNOWN in found:
        # pip-audit itself passes here
        session.error(
            "packages were not audited, because the index at hand has no advisories for them: "
            "run this session where https://pypi.org can be reached"
        )


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the API reference in build/docs; a warning or a broken reference is an error."""
    session.install("-e", ".[docs]")
    session.run("python", "-W", "error", "docs/build.py", "build/docs")


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Run 2,000 simulations and put defects back, or pass the arguments after ``--`` on."""
    session.install(".[test]")
    run = ("python", "-m", "benchmarks.chaos")
    session.run(*run, *(session.posargs or ["--seeds", "0..2000", "--jobs", "2"]))
    if not session.posargs:
        session.run(*run, "--defects")


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

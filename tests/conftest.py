"""Fixtures that every test module shares."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from blockbuster import blockbuster_ctx
from canary import AFTER_ALL, Canary, watched
from hypothesis import HealthCheck, settings
from postgres_server import server_dsn

from modelmax_async.emulator import Emulator

settings.register_profile("suite", max_examples=60)
settings.load_profile("suite")
settings.register_profile(
    "fuzz", max_examples=20_000, suppress_health_check=[HealthCheck.too_slow]
)

pytest_plugins = ["modelmax_async.testing.fixtures", "pytester"]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio; a module parametrises it for virtual time or uvloop."""
    return "asyncio"


@pytest.fixture(scope="session")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    """What looks for the key of the tests in all that they log, raise and leave behind."""
    found = Canary()
    with watched(found):
        yield found
    found.test = AFTER_ALL
    found.search(tmp_path_factory.getbasetemp())

    assert [] == found.hits


@pytest.fixture(autouse=True)
def _key_stays_secret(request: pytest.FixtureRequest, canary: Canary) -> Iterator[None]:
    canary.begin(request.node.nodeid)
    yield

    assert [] == canary.end(request.node.funcargs.get("tmp_path"))


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    program = ["modelmax_async.emulator.__main__"]  # it prints its address, as programs do
    with blockbuster_ctx(
        scanned_modules=["modelmax_async"], excluded_modules=program
    ) as watched:
        for each in watched.functions.values():
            # SQLiteLedger looks once, when it is made, whether the directory of its file exists
            each.can_block_in("modelmax_async/ledger/sqlite_file.py", {"check_file"})
            # asyncpg looks for ~/.pgpass and certificates, as libpq does
            each.can_block_in("asyncpg/connect_utils.py", {"_parse_connect_arguments"})
            # coverage shares its data between threads
            each.can_block_in("coverage/collector.py", {"lock_data"})
        yield


@pytest.fixture(autouse=True)
def _settings_of_the_logger_end_with_the_test() -> Iterator[None]:
    logger = logging.getLogger("modelmax_async")
    filters, handlers, level = logger.filters[:], logger.handlers[:], logger.level
    yield
    logger.filters[:], logger.handlers[:] = filters, handlers
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODELMAX_API_KEY", "MODELMAX_API_BASE_URL", "MODELMAX_LOG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def emulator() -> Emulator:
    """A local ModelMax whose jobs end at once unless a script says otherwise."""
    return Emulator()


@pytest.fixture
async def url(emulator: Emulator) -> AsyncIterator[str]:
    """The emulator's base URL on a real socket of this event loop."""
    async with emulator.serve() as base_url:
        yield base_url


@pytest.fixture(scope="session")
def made_certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The files of a certificate, not trusted, and of its private key.

    It is for this machine, and for ``films.example``.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = str(directory / "c.pem"), str(directory / "k.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost"]
    names += ["-addext", "subjectAltName=DNS:localhost,DNS:films.example,IP:127.0.0.1"]
    files = ["-keyout", key, "-out", certificate]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)  # noqa: S603 - no input from outside
    return certificate, key


@pytest.fixture
def certificate(
    made_certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """The files of the same certificate, trusted, and of its private key."""
    monkeypatch.setenv("SSL_CERT_FILE", made_certificate[0])
    return made_certificate


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of a real PostgreSQL that the tests of this process share."""
    with server_dsn(tmp_path_factory.mktemp("postgres")) as found:
        yield found


@pytest.fixture
def schema() -> str:
    """The name of a schema for this test alone."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test without coverage's trace function; pytest-cov's mark keeps it under xdist."""
    if item.get_closest_marker("untraced") is None:
        return (yield)
    here, threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(here)
        threading.settrace(threads)

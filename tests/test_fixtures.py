"""The fixtures in small projects of their own, under pytest-asyncio and anyio's plugin."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from unittest.mock import Mock

import pytest

from modelmax_async import AsyncQueueClient
from modelmax_async.testing import ModelMax, fixtures

CONFTEST = 'pytest_plugins = ["modelmax_async.testing.fixtures"]'
INI = """
[pytest]
addopts = -p no:xdist -p no:cacheprovider -p no:hypothesispytest
filterwarnings = error
"""
#: pytest-asyncio asks for this option.
ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function")
NO_ASYNCIO = ("-p", "no:asyncio")
#: What a user writes, but for the marker of the plugin that runs the tests.
PROJECT = """
import asyncio
import time

import pytest

from modelmax_async import JobFailedError, SQLiteLedger
from modelmax_async.testing import Fault, JobScript, VirtualTimeLoop

CLIENTS = []


async def test_result_is_billed_once(modelmax, modelmax_client):
    modelmax.fault("status", Fault.error(502))
    modelmax.assert_billed_once(await modelmax_client.generate("a reef"))


async def test_failure_is_not_billed(modelmax, modelmax_client):
    modelmax.script(JobScript(outcome="FAILED"))
    with pytest.raises(JobFailedError) as caught:
        await modelmax_client.generate("a reef")
    modelmax.assert_not_billed(caught.value.job)


@pytest.mark.virtual_time
async def test_ten_minutes(modelmax, modelmax_client):
    modelmax.script(JobScript(run_seconds=600))
    began = time.monotonic()
    modelmax.assert_billed_once(await modelmax_client.generate("a reef"))
    assert asyncio.get_running_loop().time() >= 600
    assert time.monotonic() - began < 5


@pytest.mark.virtual_time
async def test_ten_minutes_with_a_file(modelmax, tmp_path):
    modelmax.script(JobScript(run_seconds=600))
    async with modelmax.client(ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
        result = await client.generate("a reef")
        await client.download(result, tmp_path / "videos")
    modelmax.assert_billed_once(result)
    assert asyncio.get_running_loop().time() < 620


async def test_real_time(modelmax_client):
    assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    CLIENTS.append(modelmax_client)
    await modelmax_client.pending()


async def test_client_is_closed_after_the_test():
    assert "<AsyncQueueClient closed" in repr(CLIENTS.pop())


async def test_no_bill_yet(modelmax, modelmax_client):
    modelmax.assert_billed_once(await modelmax_client.submit("a reef"))
"""
NO_BILL = "E*AssertionError: job * must be billed once, but 0 of its 0 result calls were billed"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A directory with a ``conftest.py`` that opts in."""
    pytester.makeini(INI)
    pytester.makeconftest(CONFTEST)
    return pytester


def marked(name: str, text: str = PROJECT) -> str:
    return f"import pytest\npytestmark = pytest.mark.{name}\n{text}"


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_project_with_pytest_asyncio(project: pytest.Pytester, mode: str) -> None:
    project.makepyfile(PROJECT if mode == "auto" else marked("asyncio"))
    result = project.runpytest_subprocess(f"--asyncio-mode={mode}", *ASYNCIO)

    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines([NO_BILL])


def test_project_with_plugin_of_anyio(project: pytest.Pytester) -> None:
    """Without pytest-asyncio, and with the backends that anyio's plugin chooses by itself."""
    project.makepyfile(marked("anyio"))
    result = project.runpytest_subprocess(*NO_ASYNCIO, "-k", "not trio")

    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines([NO_BILL])


def test_both_plugins_in_one_project(project: pytest.Pytester) -> None:
    project.makepyfile(test_by_anyio=marked("anyio"), test_by_asyncio=marked("asyncio"))
    result = project.runpytest_inprocess("-k", "not trio", *ASYNCIO)

    result.assert_outcomes(passed=12, failed=2)


def test_test_that_both_plugins_claim_is_refused(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_claimed(modelmax_client): ...
        """
    )
    result = project.runpytest_inprocess("--asyncio-mode=auto", *ASYNCIO)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["both pytest-asyncio and anyio's plugin run this test *"])


def test_tests_that_share_a_loop_get_a_client_each(project: pytest.Pytester) -> None:
    text = """
        import asyncio
        import pytest

        loops, clients = set(), []

        @pytest.mark.asyncio(loop_scope={scope!r})
        class TestLoop:
            async def test_one(self, modelmax, modelmax_client):
                loops.add(asyncio.get_running_loop())
                clients.append(modelmax_client)
                modelmax.assert_billed_once(await modelmax_client.generate("a reef"))

            async def test_other(self, modelmax, modelmax_client):
                modelmax.assert_billed_once(await modelmax_client.generate("a reef"))
                assert {{asyncio.get_running_loop()}} == loops
                assert "<AsyncQueueClient closed" in repr(clients[0])
        """
    scopes = ("class", "module", "package", "session")
    project.makepyfile(
        __init__="", **{f"test_{scope}": text.format(scope=scope) for scope in scopes}
    )
    result = project.runpytest_inprocess(*ASYNCIO)

    result.assert_outcomes(passed=8)


def test_loops_of_the_project_are_kept(project: pytest.Pytester) -> None:
    project.makeconftest(
        f"""
        import asyncio
        {CONFTEST}

        class Loop(asyncio.SelectorEventLoop):
            pass

        def pytest_asyncio_loop_factories(config, item):
            return {{"own": Loop}}
        """
    )
    project.makepyfile(
        """
        import asyncio
        import pytest

        pytestmark = pytest.mark.asyncio

        async def test_own(modelmax_client):
            assert "Loop" == type(asyncio.get_running_loop()).__name__

        @pytest.mark.virtual_time
        async def test_virtual(modelmax_client):
            assert "VirtualTimeLoop" == type(asyncio.get_running_loop()).__name__
        """
    )
    result = project.runpytest_inprocess(*ASYNCIO)

    result.assert_outcomes(passed=2)


MISUSE = {
    "test_misused_client": """
        def test_sync(modelmax_client): ...
        """,
    "test_misused_marker": """
        import pytest

        @pytest.mark.virtual_time
        def test_sync(): ...
        """,
    "test_misused_socket": """
        import pytest

        @pytest.mark.anyio
        @pytest.mark.virtual_time
        async def test_server(modelmax_server): ...
        """,
    "test_misused_loop": """
        import pytest

        pytestmark = pytest.mark.anyio

        @pytest.fixture(scope="module")
        def anyio_backend():
            return "asyncio"

        @pytest.fixture(scope="module")
        async def wide(anyio_backend):
            yield

        async def test_first(wide): ...

        @pytest.mark.virtual_time
        async def test_shared(modelmax_client): ...
        """,
    "test_misused_trio": """
        import pytest

        @pytest.fixture
        def anyio_backend_name():
            return "trio"

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_backend(modelmax_client): ...
        """,
}


def test_misuse_is_explained(project: pytest.Pytester) -> None:
    project.makepyfile(**MISUSE)
    result = project.runpytest_inprocess(*NO_ASYNCIO, "-rs")

    result.assert_outcomes(errors=4, passed=1, skipped=1)
    result.stdout.fnmatch_lines_random(
        [
            "modelmax_client needs an asynchronous test that *",
            "virtual_time needs an asynchronous test that *",
            "modelmax_server is on a socket, and virtual_time does not wait for sockets*",
            "virtual_time has no effect on this test, because it shares its event loop*",
            "*modelmax_async runs on asyncio only",
        ]
    )


def test_old_pytest_asyncio_is_refused() -> None:
    """It lacks the hook for loops, which came with 1.4."""
    manager = Mock()
    manager.get_plugin.return_value.pytest_asyncio.is_async_test.return_value = True
    item = Mock(fixturenames=[], config=Mock(pluginmanager=manager))
    item.config.hook.pytest_asyncio_loop_factories.has_spec.return_value = False
    with pytest.raises(pytest.fail.Exception, match=r"needs pytest-asyncio 1\.4 or later"):
        fixtures.pytest_runtest_setup(item)


def test_missing_uvicorn_is_named(project: pytest.Pytester) -> None:
    project.makeconftest(
        f"""
        import importlib.util
        import pytest
        {CONFTEST}

        @pytest.fixture(autouse=True)
        def without(monkeypatch):
            monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        """
    )
    project.makepyfile("def test_server(modelmax_server): ...")
    result = project.runpytest_inprocess(*NO_ASYNCIO)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(['*needs uvicorn: *pip install "modelmax-async?emulator?"*'])


def test_fixtures_have_to_be_opted_into(project: pytest.Pytester) -> None:
    project.makeconftest("")
    project.makepyfile("def test_unknown(modelmax): ...")
    result = project.runpytest_inprocess(*NO_ASYNCIO)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *fixture 'modelmax' not found"])


def test_server_sets_the_environment_of_a_program(
    modelmax: ModelMax, modelmax_server: str
) -> None:
    async def program() -> str:
        async with AsyncQueueClient(model="veo-3") as client:  # all else from the environment
            return (await client.generate("a reef")).request_id

    modelmax.assert_billed_once(asyncio.run(program()))
    assert modelmax_server.startswith("http://127.0.0.1:")


def test_import_needs_neither_pytest_nor_respx() -> None:
    script = (
        "import sys\n"
        "sys.modules.update(pytest=None, respx=None, pytest_asyncio=None)\n"
        "from modelmax_async.testing import *\n"
    ).replace("import *", "import ModelMax, VirtualTimeLoop, check_ledger")
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=15
    )

    assert "" == done.stderr


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(ImportError, match="cannot import name 'reef'"):
        from modelmax_async.testing import reef  # noqa: F401, PLC0415

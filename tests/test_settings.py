"""Settings: checked before any I/O, and a key that is never shown."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import HOSTILE_IDS

from modelmax_async import AsyncQueueClient, ConfigurationError, ResourceLimits
from modelmax_async._api_key import ApiKey, read_key
from modelmax_async._settings import Settings, is_loopback, origin_of, read_settings

KEY = "sk-0123456789abcdef"
LOOPBACK = "http://127.0.0.1:8000"


def read(environ: dict[str, str] | None = None, **changes: Any) -> Settings:
    told: dict[str, Any] = {
        "api_key": ApiKey(KEY),
        "base_url": None,
        "model": None,
        "on_uncertain": "raise",
        "max_in_flight": 32,
        "allow_insecure": False,
    }
    return read_settings(**(told | changes), environ=environ or {})


def test_defaults_are_the_documented_ones() -> None:
    settings = read()

    assert "https://api.modelmax.io" == settings.base_url
    assert "https://api.modelmax.io:443" == settings.origin
    assert KEY == settings.key.reveal()
    assert (None, "raise", 32) == (
        settings.model,
        settings.on_uncertain,
        settings.max_in_flight,
    )


def test_key_argument_overrides_the_environment() -> None:
    environ = {"MODELMAX_API_KEY": "sk-environment"}
    argument, environment = read_key(KEY, environ), read_key(None, environ)

    assert isinstance(argument, ApiKey)
    assert isinstance(environment, ApiKey)
    assert KEY == argument.reveal()
    assert "sk-environment" == environment.reveal()


@pytest.mark.parametrize(("argument", "environ"), [(None, {}), ("", {"MODELMAX_API_KEY": KEY})])
def test_missing_key_says_how_to_give_one(
    argument: str | None, environ: dict[str, str]
) -> None:
    problem = read_key(argument, environ)

    assert "no API key: set MODELMAX_API_KEY or pass api_key=" == str(problem)


def test_empty_key_in_the_environment_counts_as_missing() -> None:
    assert "no API key" in str(read_key(None, {"MODELMAX_API_KEY": ""}))


@pytest.mark.parametrize("key", [b"sk-bytes", 5, ["sk-list"]])
def test_key_of_another_type_is_refused_without_showing_it(key: object) -> None:
    kind = type(key).__name__

    assert f"api_key must be a string, got {kind}" == str(read_key(key, {}))


MALFORMED = [
    f"{KEY}\n",
    f" {KEY}",
    f"{KEY} x",
    f"{KEY}\r\nX-Evil: 1",
    f"{KEY}\t",
    f"{KEY}é",
    f"{KEY}\x7f",
    f"{KEY}\x00",
    f"{KEY}\u2028",
    f"{KEY}\ud800",
]


@pytest.mark.parametrize("key", MALFORMED)
def test_malformed_key_is_named_but_not_shown(key: str) -> None:
    problem = read_key(key, {})

    assert isinstance(problem, ConfigurationError)
    assert "malformed" in str(problem)
    assert KEY not in str(problem)


@given(st.text(st.characters(exclude_categories=()), min_size=12))
def test_error_about_a_key_does_not_contain_it(key: str) -> None:
    problem = read_key(key, {})

    assert isinstance(problem, ApiKey) or key not in str(problem)


def _client_error(**arguments: Any) -> BaseException:
    with pytest.raises(ConfigurationError) as caught:
        AsyncQueueClient(**arguments)
    return caught.value


def _safely(value: object) -> str:
    try:
        return repr(value)
    except Exception as exc:  # noqa: BLE001 - a half-made object may have no repr
        return f"<{type(exc).__name__}>"


def _shown(error: BaseException) -> str:
    """Return what a tool that prints local variables shows of the package's own frames."""
    text = []
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if frame.f_globals.get("__name__", "").startswith("modelmax_async"):
                shown = [f"{name} = {_safely(v)}" for name, v in frame.f_locals.items()]
                text += [frame.f_code.co_name, *shown]
        text += [str(seen), repr(seen)]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(text)


@pytest.mark.parametrize("key", MALFORMED[:5])
def test_no_frame_of_the_package_shows_a_malformed_key(key: str) -> None:
    shown = _shown(_client_error(api_key=key))

    assert "read_settings" in shown
    assert KEY not in shown


@pytest.mark.parametrize("key", [KEY, f"{KEY}\n"])
def test_no_frame_of_the_package_shows_the_key_of_the_environment(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMAX_API_KEY", key)
    shown = _shown(_client_error(base_url="ftp://nowhere"))

    assert "read_settings" in shown
    assert KEY not in shown


@pytest.mark.parametrize("options", [{"timeout": -1}, {"model": ".."}, {"max_in_flight": 0}])
def test_no_frame_shows_a_good_key_when_another_setting_is_bad(options: dict[str, Any]) -> None:
    assert KEY not in _shown(_client_error(api_key=KEY, **options))


def test_client_shows_no_key() -> None:
    client = AsyncQueueClient(api_key=KEY)

    assert KEY not in repr(client)
    assert KEY not in str(vars(client))


def test_only_reveal_shows_the_key() -> None:
    key = ApiKey(KEY)

    assert "ApiKey('sk-…')" == repr(key) == str(key) == f"{key}"
    assert KEY not in repr(read())
    assert not hasattr(key, "__dict__")


def test_key_is_hidden_in_foreign_texts() -> None:
    assert "no sk-... here" == ApiKey(KEY).hide_in(f"no {KEY} here")
    assert "sk-... sk-..." == ApiKey("sk-a/bc/d").hide_in(r"sk-a\/bc\/d sk-a/bc/d")
    assert "a local server" == ApiKey("local").hide_in("a local server")  # too short


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
@pytest.mark.parametrize("value", [ApiKey(KEY), read()], ids=["key", "settings"])
def test_key_cannot_be_pickled_or_copied(copied: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        copied(value)


@pytest.mark.parametrize(
    ("argument", "environ", "expected"),
    [
        (
            "https://a.example",
            {"MODELMAX_API_BASE_URL": "https://b.example"},
            "https://a.example",
        ),
        (None, {"MODELMAX_API_BASE_URL": "https://b.example"}, "https://b.example"),
        (None, {"MODELMAX_API_BASE_URL": ""}, "https://api.modelmax.io"),
        ("", {}, "https://api.modelmax.io"),
        ("https://a.example/", {}, "https://a.example"),
        ("https://a.example/gateway/modelmax//", {}, "https://a.example/gateway/modelmax"),
    ],
)
def test_base_url_argument_overrides_the_environment(
    argument: str | None, environ: dict[str, str], expected: str
) -> None:
    assert expected == read(environ, base_url=argument).base_url


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.modelmax.io", "https://api.modelmax.io:443"),
        ("HTTPS://API.ModelMax.IO/", "https://api.modelmax.io:443"),
        ("https://api.modelmax.io.:443/v0", "https://api.modelmax.io:443"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
        ("http://[::1]:80/x", "http://[::1]:80"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]:443"),
    ],
)
def test_equal_origins_have_one_spelling(url: str, origin: str) -> None:
    assert origin == read(base_url=url).origin


def test_scheme_of_a_base_url_is_in_lower_case() -> None:
    """Whatever decides whether certificates are checked compares it."""
    assert "https://H.example/P" == read(base_url="HTTPS://H.example/P/").base_url


@pytest.mark.parametrize("host", ["a..b", ".a", "a..", "a" * 64 + ".com"])
def test_malformed_host_name_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="with a host and an optional port"):
        read(base_url=f"https://{host}")


@pytest.mark.parametrize(
    "host", ["xn--zzzz.example", "xn--a", "\u0301a", "[v1.a]", "256.1.1.1"]
)
def test_host_that_cannot_be_requested_is_refused(host: str) -> None:
    error = _client_error(api_key=KEY, base_url=f"https://{host}")

    assert "base_url cannot be used" in str(error)


def test_origin_of_an_unknown_scheme_has_no_default_port() -> None:
    assert "ftp://h:0" == origin_of("ftp", "h", None)
    assert "ftp://h:21" == origin_of("ftp", "H.", 21)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
    ],
)
def test_http_to_this_machine_is_allowed(host: str) -> None:
    url = f"http://[{host}]:8000" if ":" in host else f"http://{host}:8000"

    assert is_loopback(host)
    assert url == read(base_url=url).base_url


FOREIGN = [
    "api.modelmax.io",
    "10.0.0.1",
    "0.0.0.0",  # noqa: S104 - an address, not a binding
    "127.1",
    "0x7f.1",
    "2130706433",
    "ip6-localhost",
    "app.localhost",
    "[::ffff:10.0.0.1]",
    "127.0.0.1.evil.com",
    "localhost.evil.com",
    "evillocalhost",
    "localhost-evil",
    "[::2]",
    "[::]",
]


@pytest.mark.parametrize("host", [*FOREIGN, "localhost."])
def test_http_elsewhere_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"unencrypted.*allow_insecure=True"):
        read(base_url=f"http://{host}")


@pytest.mark.parametrize("host", FOREIGN)
def test_http_elsewhere_needs_allow_insecure(host: str) -> None:
    settings = read(base_url=f"http://{host}", allow_insecure=True)

    assert f"http://{host}:80" == settings.origin


@pytest.mark.parametrize(
    "url",
    [
        "api.modelmax.io",
        "//api.modelmax.io",
        "ftp://api.modelmax.io",
        "https://",
        "https:///v1",
        "https://:443",
        "https://a.example:99999",
        "https://a.example:port",
        "https://a.example:0",
        "https://a.example:-1",
        "https://[::1",
        "https://evil.com[::1]",
        "http://[::1]evil.com",
        "javascript:alert(1)",
    ],
)
def test_base_url_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(
        ConfigurationError, match="must be an http:// or https:// URL with a host"
    ):
        read(base_url=url, allow_insecure=True)


@pytest.mark.parametrize(
    "url",
    [
        " https://a.example",
        "https://a.example\n",
        "https://a .example",
        "https://a\texample",
        "https://a.example\\@b",
        "https://a\u00a0b",
        b"https://a.example",
        5,
    ],
)
def test_base_url_with_invalid_characters_is_refused(url: Any) -> None:
    with pytest.raises(
        ConfigurationError, match="without spaces, control characters or backslashes"
    ):
        read(base_url=url)


@pytest.mark.parametrize("rest", ["?a=1", "#top", "?", "#", "/v1?", "/?x#y"])
def test_base_url_with_a_query_or_fragment_is_refused(rest: str) -> None:
    with pytest.raises(ConfigurationError, match="query or a fragment"):
        read(base_url=f"https://a.example{rest}")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@a.example",
        "https://hunter2@a.example",
        "https://:hunter2@a.example",
        "https://user:hunter2/x@a.example",
        "https://user:hunter2@a\u2100.example",
        "ftp://user:hunter2@a.example",
        f"{LOOPBACK}@hunter2.example",
    ],
)
def test_credentials_in_the_base_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(base_url=url)

    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("on_uncertain", "retry", "'raise' or 'refetch'"),
        ("max_in_flight", 0, "from 1 to 1024"),
        ("max_in_flight", 1025, "from 1 to 1024"),
        ("max_in_flight", True, "must be an integer from 1 to 1024"),
        ("max_in_flight", 3.0, "must be an integer from 1 to 1024"),
        ("api_key", ConfigurationError("its problem"), "^its problem$"),
    ],
)
def test_unusable_setting_is_named(option: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(**{option: value})


@pytest.mark.parametrize(("value", "word"), HOSTILE_IDS)
def test_hostile_model_is_a_configuration_error(value: Any, word: str) -> None:
    if value is None:
        assert read(model=None).model is None
        return

    with pytest.raises(ConfigurationError, match=word):
        read(model=value)


def test_valid_settings_are_kept() -> None:
    settings = read(on_uncertain="refetch", max_in_flight=1024, model="veo-3/fast")

    assert ("refetch", 1024, "veo-3/fast") == (
        settings.on_uncertain,
        settings.max_in_flight,
        settings.model,
    )


@given(st.text(max_size=60))
def test_any_base_url_is_settings_or_a_configuration_error(url: str) -> None:
    try:
        settings = read(base_url=f"https://{url}")
    except ConfigurationError:
        return

    assert settings.origin.startswith("https://")
    assert settings.base_url.startswith("https://")


def test_limits_are_the_defaults_unless_given() -> None:
    chosen = ResourceLimits(response_bytes=2048)

    assert ResourceLimits() == read().limits
    assert chosen == read(limits=chosen).limits


@pytest.mark.parametrize(
    ("field", "value", "range_"),
    [
        ("response_bytes", 0, "an integer from 1024 to"),
        ("result_bytes", 1e6, "an integer from 1024 to"),
        ("kept_bytes", True, "an integer from 1024 to"),
        ("least_rate", 0, "a number above 0"),
        ("least_rate_seconds", float("inf"), "a number above 0"),
        ("lookups", 65, "an integer from 1 to 64"),
        ("lookup_seconds", "10", "a number above 0"),
    ],
)
def test_unusable_limit_is_refused(field: str, value: Any, range_: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be {range_}"):
        ResourceLimits(**{field: value})

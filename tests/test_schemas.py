"""The JSON bodies: strict where the SDK needs it, lenient everywhere else."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from strategies import near_bodies, value_or_error, wild_json

from modelmax_async import Usage
from modelmax_async._api.schemas import (
    ResultBody,
    StatusBody,
    SubmitBody,
    converter,
    read_usage,
    structure,
)


def test_documented_bodies_are_read() -> None:
    submit = {"request_id": "r", "status": "IN_QUEUE", "status_url": "/s", "response_url": "/r"}
    status = {"request_id": "r", "status": "FAILED", "error": "nsfw"}
    result = {"status": "COMPLETED", "model": "m", "data": [{"url": "/0"}], "usage": {}}

    assert SubmitBody("r", "/s", "/r") == structure(submit, SubmitBody)
    assert StatusBody("FAILED", "nsfw") == structure(status, StatusBody)
    assert ResultBody("COMPLETED", "m", [{"url": "/0"}], {}) == structure(result, ResultBody)


def test_unknown_and_missing_optional_fields_are_accepted() -> None:
    assert SubmitBody("r", None, None) == structure({"request_id": "r", "x": 1}, SubmitBody)
    assert StatusBody("X", None) == structure({"status": "X", "progress": 0.5}, StatusBody)
    assert ResultBody("X", None, (), None, None) == structure({"status": "X"}, ResultBody)


@pytest.mark.parametrize(
    ("data", "shape", "message"),
    [
        ({}, SubmitBody, "'request_id' is missing"),
        ({}, StatusBody, "'status' is missing"),
        ({"status": 5}, StatusBody, "expected a string, got int"),
        ({"status": None}, ResultBody, "expected a string, got NoneType"),
        ({"request_id": True}, SubmitBody, "expected a string, got bool"),
        ([], SubmitBody, "expected a JSON object, got list"),
        (None, StatusBody, "expected a JSON object, got NoneType"),
        ("status", StatusBody, "expected a JSON object, got str"),
    ],
)
def test_missing_or_mistyped_required_field_is_named(
    data: Any, shape: type[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        structure(data, shape)


def test_converter_is_compiled_once() -> None:
    assert converter() is converter()


@pytest.mark.untraced
@given(wild_json | near_bodies)
def test_any_json_is_a_body_or_a_value_error(data: Any) -> None:
    for shape in (SubmitBody, StatusBody, ResultBody):
        found = value_or_error(partial(structure, data, shape), ValueError)

        assert isinstance(found, shape | ValueError)
        assert not isinstance(found, ValueError) or str(found).encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, Usage()),
        ([], Usage()),
        ({}, Usage()),
        (
            {"video_seconds": 8, "video_resolution": "4k", "video_has_audio": False},
            Usage(8, "4k", video_has_audio=False),
        ),
        ({"video_seconds": 7.5, "credits": 3}, Usage(7.5)),
        ({"video_seconds": "8", "video_resolution": 720, "video_has_audio": 1}, Usage()),
        ({"video_seconds": True}, Usage()),
        ({"video_seconds": float("nan")}, Usage()),
        ({"video_seconds": float("inf")}, Usage()),
        ({"video_seconds": 10**400}, Usage()),  # it could not be added up
        ({"video_resolution": "7\ud80020p"}, Usage(None, "7?20p")),
    ],
)
def test_any_usage_is_accepted(data: Any, expected: Usage) -> None:
    assert expected == read_usage(data)


@given(wild_json)
def test_usage_is_comparable_and_printable(data: Any) -> None:
    usage = read_usage({"video_seconds": data, "video_resolution": data})

    assert usage == read_usage({"video_seconds": data, "video_resolution": data})
    assert repr(usage).encode()

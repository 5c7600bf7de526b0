"""The sandbox, compared with the packages that PostHog itself uses."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox import errors
from sandbox.errors import ApiError
from sandbox.functions.filters import compile_filters
from sandbox.oauth.redirects import is_allowed, may_be_registered
from tests.integration.sandbox.driver import FUNCTIONS, Driver, function

URIS = [
    "http://127.0.0.1:8423/callback",
    "http://127.0.0.1/callback",
    "http://127.0.0.1:9/callback",
    "http://127.0.0.1:9/callback/",
    "http://127.0.0.1:9/callback?a=b",
    "http://127.0.0.1:9/callback;a=b",
    "http://127.0.0.1:9/callback#a",
    "http://me@127.0.0.1:9/callback",
    "http://[::1]:9/callback",
    "https://127.0.0.1:9/callback",
    "https://example.com/callback",
    "https://example.com:8443/callback",
    "https://example.com/callback?a=b",
    "https://example.com/callback?a=b&c=d",
    "https://EXAMPLE.com/callback",
    "https://example.com.evil.org/callback",
    "app.example:/callback",
]
PAIRS = [list(pair) for pair in itertools.product(URIS, URIS)]

SANDBOX_ERRORS: dict[str, ApiError] = {
    "unauthenticated": errors.unauthenticated(),
    "not_accepted": errors.authentication_failed("Access token has expired."),
    "denied": errors.permission_denied("API key missing required scope 'person:read'"),
    "not_found": errors.not_found(),
    "no_project": errors.not_found("Project not found."),
    "not_allowed": errors.method_not_allowed('Method "PUT" not allowed.'),
    "throttled": errors.throttled(30),
    "throttled_one": errors.throttled(1),
    "parse_error": errors.parse_error("JSON parse error - x"),
    "addon": errors.invalid("The add-on is required.", "template_id"),
    "nested": errors.invalid("This field is required.", "inputs__url"),
    "server_error": errors.server_error(),
}


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    script = Path(__file__).with_name("drf_oracle.py")
    process = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(PAIRS),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("name", SANDBOX_ERRORS)
def test_an_error_has_the_status_body_and_headers_of_drf_exceptions_hog(
    name: str, oracle: dict[str, Any]
) -> None:
    error, expected = SANDBOX_ERRORS[name], oracle["errors"][name]
    body = error.body
    assert expected["status"] == error.status
    assert expected["body"] == {
        "type": body.type,
        "code": body.code,
        "detail": body.detail,
        "attr": body.attr,
    }
    assert expected["headers"].get("Retry-After") == error.headers.get("Retry-After")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("no_type", {}),
        ("unknown_type", {"type": "nothing"}),
        ("no_boolean", function(enabled={})),
        ("no_object", []),
    ],
)
async def test_a_validation_error_is_the_one_of_django_rest_framework(
    name: str, body: Any, oracle: dict[str, Any], posthog: Driver
) -> None:
    response = await posthog.http.post(FUNCTIONS, json=body, headers=posthog.key)
    assert response.status_code == oracle["errors"][name]["status"]
    assert response.json() == oracle["errors"][name]["body"]


def test_a_filter_that_is_no_list_is_refused_with_the_error_of_django_rest_framework(
    oracle: dict[str, Any],
) -> None:
    with pytest.raises(ApiError) as raised:
        compile_filters({"events": "x"})
    expected = oracle["errors"]["no_list"]["body"]
    body = raised.value.body
    assert (body.code, body.detail, body.attr) == (
        expected["code"],
        expected["detail"],
        expected["attr"],
    )


def test_a_redirect_is_allowed_if_django_oauth_toolkit_allows_it(oracle: dict[str, Any]) -> None:
    for (uri, registered), expected in zip(PAIRS, oracle["redirects"], strict=True):
        if may_be_registered(registered):
            assert is_allowed(uri, (registered,)) == expected, (uri, registered)

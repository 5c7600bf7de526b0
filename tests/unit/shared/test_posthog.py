"""PostHog: hosts, scopes, the client document, and URLs."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import ValidationError

from hogsend.posthog import scopes
from hogsend.posthog.client_document import client_document
from hogsend.posthog.hosts import host_of_token_endpoint, ingestion_host, private_host
from hogsend.service.settings.shared import PostHogSettings
from hogsend.urls import is_absolute_url, is_loopback, origin

# Spec 3.1.
SPECIFIED_DOCUMENT = {
    "client_id": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "client_name": "Hogsend",
    "client_uri": "https://hogsend.com",
    "redirect_uris": [
        "http://127.0.0.1:8423/callback",
        "http://127.0.0.1:8424/callback",
        "http://127.0.0.1:8425/callback",
    ],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
    "scope": (
        "person:read person:write project:read organization:read hog_function:read "
        "hog_function:write feature_flag:read cohort:read cohort:write query:read insight:read "
        "event_definition:read property_definition:read"
    ),
}


def test_the_client_document_is_the_one_in_the_specification() -> None:
    assert msgspec.to_builtins(client_document(), str_keys=True) == {
        **SPECIFIED_DOCUMENT,
        "redirect_uris": tuple(SPECIFIED_DOCUMENT["redirect_uris"]),
        "grant_types": tuple(SPECIFIED_DOCUMENT["grant_types"]),
        "response_types": tuple(SPECIFIED_DOCUMENT["response_types"]),
    }


def test_the_client_document_requests_every_scope() -> None:
    assert client_document().scope.split(" ") == list(scopes.SCOPES)
    assert len(scopes.SCOPES) == 13


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        (scopes.SCOPES, []),
        ((), list(scopes.SCOPES)),
        (("person:write",), list(scopes.SCOPES[2:])),
    ],
)
def test_missing_scopes_are_those_neither_granted_nor_implied_by_a_write_scope(
    granted: tuple[str, ...], missing: list[str]
) -> None:
    assert scopes.missing(granted) == missing


def test_a_read_scope_does_not_imply_its_write_scope() -> None:
    assert "cohort:write" in scopes.missing(["cohort:read"])


@pytest.mark.parametrize(
    ("ingestion", "private"),
    [
        ("https://eu.i.posthog.com", "https://eu.posthog.com"),
        ("https://us.i.posthog.com/", "https://us.posthog.com"),
        ("https://US.I.PostHog.com", "https://US.PostHog.com"),
        ("http://eu.i.posthog.com:8000/x", "http://eu.posthog.com:8000/x"),
        ("https://eu.posthog.com", "https://eu.posthog.com"),
        ("https://app.posthog.com/", "https://us.posthog.com"),
        ("https://app.posthog.company", "https://app.posthog.company"),
        ("https://posthog.example.com/", "https://posthog.example.com"),
        ("https://a.b.i.posthog.com", "https://a.b.i.posthog.com"),
        # A host that only starts like PostHog's is kept.
        ("https://eu.i.posthog.com.evil.example", "https://eu.i.posthog.com.evil.example"),
    ],
)
def test_the_private_host_is_derived_from_the_ingestion_host(ingestion: str, private: str) -> None:
    assert private_host(ingestion) == private


@pytest.mark.parametrize(
    ("private", "ingestion"),
    [
        ("https://eu.posthog.com/", "https://eu.i.posthog.com"),
        ("https://app.posthog.com", "https://us.i.posthog.com"),
        ("https://eu.i.posthog.com", "https://eu.i.posthog.com"),
        ("https://ph.example/ingest/", "https://ph.example/ingest"),
    ],
)
def test_the_ingestion_host_is_derived_from_the_private_host(private: str, ingestion: str) -> None:
    assert ingestion_host(private) == ingestion


@pytest.mark.parametrize(
    ("token_endpoint", "host"),
    [
        ("https://us.posthog.com/oauth/token/", "https://us.posthog.com"),
        ("https://us.posthog.com/oauth/token", "https://us.posthog.com"),
        (
            "https://tools.example.com:8443/posthog/oauth/token/",
            "https://tools.example.com:8443/posthog",
        ),
        ("https://us.posthog.com/oauth/token/?x=1", "https://us.posthog.com"),
        ("https://tools.example.com/posthog/token", "https://tools.example.com"),
        ("https://tools.example.com/oauth/token/elsewhere", "https://tools.example.com"),
    ],
)
def test_the_host_of_a_token_endpoint_keeps_the_path_before_oauth(
    token_endpoint: str, host: str
) -> None:
    assert host_of_token_endpoint(token_endpoint) == host


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("https://a.test", "HTTPS://A.test:443/x?y#z", True),
        ("http://a.test:80", "http://a.test", True),
        ("http://[::1]", "http://[::1]:80", True),
        ("nats://a.test", "nats://a.test", True),
        ("https://a.test", "http://a.test", False),
        ("https://a.test", "https://a.test:8443", False),
        ("https://a.test", "https://b.test", False),
    ],
)
def test_urls_have_one_origin_if_scheme_host_and_port_are_equal(
    first: str, second: str, is_same: bool
) -> None:
    assert (origin(first) == origin(second)) is is_same


def test_case_49_only_urls_of_this_machine_are_loopback() -> None:
    for url in (
        "http://localhost:3002",
        "http://127.0.0.1:3002",
        "http://0.0.0.0:8080",
        "http://[::1]:3002",
        "https://api.myapp.localhost",
        "http://127.1",
        "http://0x7f.1",
        "http://2130706433",
        "http://127.9.9.9",
        "http://[::ffff:127.0.0.1]",
        "http://localhost.",
    ):
        assert is_loopback(url), url
    for url in ("https://t.hogsend.com", "https://api.example.com:8443", "not a url", "http://["):
        assert not is_loopback(url), url


@pytest.mark.parametrize("url", ["https://a.b/c", "http://localhost:1/x?y=1"])
def test_a_url_with_a_scheme_and_a_host_is_absolute(url: str) -> None:
    assert is_absolute_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "not-a-url",
        "/x",
        "https://",
        "https://a b",
        "https://a\\@b",
        "https://a:99999",
        "https://a\n",
    ],
)
def test_a_malformed_or_relative_url_is_not_absolute(url: str) -> None:
    assert not is_absolute_url(url)


def test_an_invalid_host_is_refused_without_quoting_it() -> None:
    with pytest.raises(ValidationError, match="posthog_host") as raised:
        PostHogSettings(posthog_host="no url at all")
    assert "no url at all" not in str(raised.value)

"""The URL that PostHog delivers to, and comparisons with the URLs of other destinations."""

from __future__ import annotations

from typing import Any

import pytest

from services.provisioner.destination.webhook_url import (
    PLACEHOLDER_URL,
    instance_url,
    is_placeholder,
    is_webhook_url,
    redacted_url,
    same_instance,
    webhook_url,
)
from tests.destinations import WEBHOOK_URL

NO_URL: list[Any] = [
    None,
    7,
    {},
    "",
    "x",
    "/v1/webhooks/posthog",
    "//t.example.com/v1/webhooks/posthog",
    "mailto:/v1/webhooks/posthog",
    "https://[bad/v1/webhooks/posthog",
]


@pytest.mark.parametrize(
    ("public_url", "url"),
    [
        ("https://t.example.com", "https://t.example.com/v1/webhooks/posthog"),
        ("https://t.example.com///", "https://t.example.com/v1/webhooks/posthog"),
        ("https://t.example.com/hogsend/", "https://t.example.com/hogsend/v1/webhooks/posthog"),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080/v1/webhooks/posthog"),
    ],
)
def test_the_webhook_url_keeps_the_prefix_of_the_public_url(public_url: str, url: str) -> None:
    assert webhook_url(public_url) == url


@pytest.mark.parametrize(
    ("url", "is_webhook"),
    [
        (WEBHOOK_URL, True),
        (f" {WEBHOOK_URL} ", True),
        ("http://anything.example/prefix/v1/webhooks/posthog?x=1", True),
        (f"{WEBHOOK_URL}/more", False),
        (f"{WEBHOOK_URL}/", False),
        ("https://x.example/?/v1/webhooks/posthog", False),
        ("https://x.example/#/v1/webhooks/posthog", False),
        *((url, False) for url in NO_URL),
    ],
)
def test_a_webhook_url_is_recognized_by_the_end_of_its_path(url: Any, is_webhook: bool) -> None:
    assert is_webhook_url(url) is is_webhook


@pytest.mark.parametrize(
    ("url", "placeholder"),
    [
        (PLACEHOLDER_URL, True),
        ("http://changeme.YOURDOMAIN.com/v1/webhooks/posthog", True),
        (WEBHOOK_URL, False),
        ("https://x.CHANGEME.yourdomain.com/", False),
        *((url, False) for url in NO_URL),
    ],
)
def test_a_placeholder_is_recognized_by_its_host(url: Any, placeholder: bool) -> None:
    assert is_placeholder(url) is placeholder


@pytest.mark.parametrize(
    ("url", "same"),
    [
        (WEBHOOK_URL, True),
        ("http://t.example.com/v1/webhooks/posthog", True),
        ("https://T.EXAMPLE.com/v1/webhooks/posthog?x=1", True),
        ("https://t.example.com:8443/v1/webhooks/posthog", False),
        ("https://t.example.com/prefix/v1/webhooks/posthog", False),
        ("https://other.example.com/v1/webhooks/posthog", False),
        ("https://t.example.com:99999/v1/webhooks/posthog", False),
        *((url, False) for url in NO_URL),
    ],
)
def test_two_urls_name_one_instance_whatever_their_scheme(url: Any, same: bool) -> None:
    assert same_instance(url, WEBHOOK_URL) is same


@pytest.mark.parametrize(
    ("url", "base"),
    [
        (WEBHOOK_URL, "https://t.example.com"),
        (
            "https://u:p@t.example.com:8443/a/v1/webhooks/posthog?k=v#f",
            "https://t.example.com:8443/a",
        ),
        ("http://[::1]:3002/v1/webhooks/posthog", "http://[::1]:3002"),
        ("ftp://t.example.com/v1/webhooks/posthog", None),
        ("https://:8080/v1/webhooks/posthog", None),
        ("no url", None),
    ],
)
def test_an_instance_is_at_the_url_without_path_and_credentials(url: str, base: str | None) -> None:
    assert instance_url(url) == base


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (WEBHOOK_URL, WEBHOOK_URL),
        ("https://user:hidden@t.example.com/v1/webhooks/posthog?token=hidden#hidden", WEBHOOK_URL),
        *((url, "") for url in NO_URL),
    ],
)
def test_a_redacted_url_has_no_secret_parts(url: Any, shown: str) -> None:
    assert redacted_url(url) == shown

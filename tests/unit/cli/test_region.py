"""The PostHog URL that users give for a server without a configured one."""

from __future__ import annotations

import pytest

from cli.admin.messages import ConnectInfo
from cli.connect.region import choose
from cli.connect.results import ConnectError, Verdict
from cli.terminal import Terminal

UNKNOWN = ConnectInfo(private_host=None, api_public_url="https://hogsend.example.com")


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("eu", "https://eu.posthog.com"),
        (" US ", "https://us.posthog.com"),
        ("https://eu.i.posthog.com/", "https://eu.posthog.com"),
        ("https://app.posthog.com", "https://us.posthog.com"),
        ("https://ph.example.com//", "https://ph.example.com"),
    ],
)
def test_the_app_host_is_found(given: str, host: str) -> None:
    assert choose(UNKNOWN, given, Terminal(json=True)) == host


@pytest.mark.parametrize(
    "given",
    [
        *("", "eu.posthog.com", "https://", "ftp://eu.posthog.com", "https://eu.posthog.com eu"),
        *("https://eu.posthog.com/project/1", "http://us.posthog.com"),
        "https://ph.example.com/project/1/settings",
    ],
)
def test_what_is_no_host_is_named(given: str) -> None:
    with pytest.raises(ConnectError) as raised:
        choose(UNKNOWN, given, Terminal(json=True))
    assert raised.value.verdict is Verdict.NOT_CONFIGURED
    assert "is not the URL of a PostHog" in str(raised.value)

"""`--posthog-host`, for a server without a configured PostHog host."""

from __future__ import annotations

import pytest

from cli.admin.messages import ConnectInfo
from cli.connect import flow
from cli.connect.region import choose
from cli.connect.results import ConnectError, Verdict
from cli.terminal import Terminal
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.oauth_discovery import Endpoints

UNCONFIGURED = ConnectInfo(private_host=None, api_public_url="https://hogsend.example.com")


@pytest.mark.parametrize(
    ("flag", "host"),
    [
        ("eu", "https://eu.posthog.com"),
        (" US ", "https://us.posthog.com"),
        ("https://eu.i.posthog.com/", "https://eu.posthog.com"),
        ("https://app.posthog.com", "https://us.posthog.com"),
        ("https://ph.example.com//", "https://ph.example.com"),
    ],
)
def test_the_host_of_the_app_is_derived_from_the_given_url(flag: str, host: str) -> None:
    assert choose(UNCONFIGURED, flag, Terminal(json=True)) == host


@pytest.mark.parametrize(
    "flag",
    [
        *("", "eu.posthog.com", "https://", "ftp://eu.posthog.com", "https://eu.posthog.com eu"),
        *("https://eu.posthog.com/project/1", "http://us.posthog.com"),
        "https://ph.example.com/project/1/settings",
    ],
)
def test_a_flag_that_is_not_the_url_of_a_posthog_is_refused(flag: str) -> None:
    with pytest.raises(ConnectError) as raised:
        choose(UNCONFIGURED, flag, Terminal(json=True))
    assert raised.value.verdict is Verdict.NOT_CONFIGURED
    assert "is not the URL of a PostHog" in str(raised.value)


@pytest.mark.parametrize(
    ("host", "is_warned"),
    [
        ("http://ph.example.com", True),
        ("http://127.0.0.1:8010", False),
        ("https://ph.example.com", False),
    ],
)
def test_a_posthog_that_is_reached_over_plain_http_from_another_machine_is_a_warning(
    host: str, is_warned: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(json=True)
    assert choose(UNCONFIGURED, host, terminal) == host
    assert ("credentials are sent unencrypted" in capfd.readouterr().err) is is_warned
    endpoints = Endpoints(
        issuer=host,
        authorization_endpoint=f"{host}/oauth/authorize/",
        token_endpoint=f"{host}/oauth/token/",
    )
    monkeypatch.setattr(flow, "discover", lambda *_args, **_options: endpoints)
    flow._discover(host, CLIENT_ID, terminal, "")
    assert ("tokens are sent unencrypted" in capfd.readouterr().err) is is_warned

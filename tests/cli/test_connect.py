"""Acceptance cases 12.10: `hogsend connect posthog` against a Hogsend server and a PostHog."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.scopes import SCOPES
from tests.cli.fakes import ADMIN_KEY, CONNECT_INFO, PROVISION, STORE, FakeHogsend, FakePostHog
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli


def test_case_154_connect_stores_the_grant_and_provisions_the_destination(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    before = datetime.now(UTC)
    outcome = cli.connect(json=True)
    assert outcome.code == 0, outcome.everything
    assert hogsend.lines == [CONNECT_INFO, STORE, PROVISION]
    assert hogsend.requests[-1].json == {}
    for request in hogsend.requests:
        assert request.headers["authorization"] == f"Bearer {ADMIN_KEY}"
        assert request.headers["accept"] == "application/json"
    expires = hogsend.payload.pop("expiresAt")
    assert expires.endswith("Z")
    assert len(expires.partition(".")[2]) == 4
    lifetime = datetime.fromisoformat(expires) - before
    assert timedelta(hours=10) - timedelta(seconds=1) < lifetime < timedelta(hours=10, minutes=2)
    assert {key: value for key, value in hogsend.payload.items() if key != "expiresAt"} == {
        "accessToken": posthog.access_token,
        "refreshToken": posthog.refresh_token,
        "tokenEndpoint": f"{posthog.url}/oauth/token/",
        "clientId": CLIENT_ID,
        "scopes": list(SCOPES),
        "scopedTeams": [199032],
        "scopedOrganizations": ["0190c5b7-0000-0000-0000-000000000001"],
    }
    assert outcome.json == {
        "ok": True,
        "verdict": "connected",
        "providerId": "posthog",
        "instance": hogsend.url,
        "posthog": {
            "privateHost": posthog.url,
            "issuer": posthog.url,
            "scopes": " ".join(SCOPES),
            "scopedTeams": [199032],
            "scopedOrganizations": ["0190c5b7-0000-0000-0000-000000000001"],
        },
        "credential": {"stored": True, "expiresAt": expires},
        "provision": {
            "attempted": True,
            "ok": True,
            "created": True,
            "hogFunctionId": "fn-1",
            "webhookUrl": "https://t.example.com/v1/webhooks/posthog",
            "enabled": True,
            "dashboardUrl": "https://eu.posthog.com/project/1/pipeline/destinations/hog-fn-1"
            "/configuration",
        },
    }


def test_case_154_the_text_output_names_the_webhook_url(cli: Cli) -> None:
    outcome = cli.connect()
    assert outcome.code == 0
    assert "Connected to PostHog" in outcome.out
    assert "https://t.example.com/v1/webhooks/posthog" in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize(
    ("refusal", "fix"),
    [
        ((409, "posthog_not_configured"), "set POSTHOG_HOST"),
        ((409, "webhook_secret_missing"), "set POSTHOG_WEBHOOK_SECRET on the server"),
        ((401, "Unauthorized"), "HOGSEND_ADMIN_KEY"),
        ((403, "Forbidden: insufficient scope"), "use a key with permission"),
        ((429, "Rate limit exceeded"), "wait a minute"),
        ((500, "Internal Server Error"), "the gateway's log"),
        ((503, "credentials does not answer"), "run `hogsend status`"),
    ],
)
def test_every_step_reports_the_fix_for_an_error_of_the_server(
    cli: Cli, hogsend: FakeHogsend, refusal: tuple[int, str], fix: str
) -> None:
    """The server sent no remediation, so the fix is the command's own."""
    refused = CannedResponse(refusal[0], {"error": refusal[1]})
    hogsend.provision = refused
    assert fix in cli.connect(json=True, provision_only=True).json["hint"]
    assert fix in cli.connect(json=True).json["provision"]["hint"]
    assert fix in cli.connect().out
    hogsend.stored = refused
    outcome = cli.connect(json=True)
    assert outcome.json["verdict"] == "store_failed"
    assert fix in outcome.json["hint"]


def test_case_165_connect_without_a_region_names_the_posthog_host_flag(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    hogsend.info["privateHost"] = None
    outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "not_configured"
    assert "--posthog-host" in outcome.json["hint"]
    assert posthog.requests == []


def test_case_165_the_posthog_host_flag_sets_the_region(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    hogsend.info.update(privateHost=None, hostExplicit=False)
    hogsend.provision = CannedResponse(409, {"error": "posthog_not_configured"})
    outcome = cli.connect(json=True, posthog_host=f"{posthog.url}/")
    assert posthog.lines[0] == "GET /.well-known/oauth-authorization-server"
    assert outcome.code == 0
    assert outcome.json["posthog"]["privateHost"] == posthog.url
    assert outcome.json["verdict"] == "connected_no_provision"
    assert outcome.err == ""


def test_the_servers_host_overrides_the_posthog_host_flag(cli: Cli, posthog: FakePostHog) -> None:
    outcome = cli.connect(posthog_host="https://other.example")
    assert outcome.code == 0
    assert "--posthog-host is ignored" in outcome.out


@pytest.mark.parametrize(
    ("is_set_on_server", "source"),
    [
        (True, "POSTHOG_PRIVATE_HOST (or POSTHOG_HOST) on the server"),
        (False, "the PostHog URL that you gave"),
    ],
)
def test_the_fix_for_an_unreachable_posthog_names_where_its_url_is_set(
    cli: Cli, hogsend: FakeHogsend, is_set_on_server: bool, source: str
) -> None:
    """For example the sandbox of a deployment, whose name only containers can resolve."""
    unreachable = "http://127.0.0.1:1"
    hogsend.info["privateHost"] = unreachable if is_set_on_server else None
    outcome = cli.connect(json=True, posthog_host=unreachable)
    assert outcome.json["verdict"] == "discovery_failed"
    assert source in outcome.json["hint"]
    assert "--posthog-host" not in outcome.json["hint"]


def test_the_default_region_is_a_warning_without_a_terminal(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.info["hostExplicit"] = False
    outcome = cli.connect()
    assert outcome.code == 0
    assert "POSTHOG_HOST" in outcome.out


def test_case_167_a_wrong_admin_key_fails_with_its_fix(cli: Cli, hogsend: FakeHogsend) -> None:
    outcome = cli.connect(admin_key="another")
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "error: 401: Unauthorized",
        "  fix: pass --admin-key, or set HOGSEND_ADMIN_KEY to the server's ADMIN_API_KEY",
    ]
    outcome = cli.connect(admin_key="another", json=True)
    assert (outcome.code, outcome.json["error"]) == (1, "401: Unauthorized")
    assert hogsend.lines == [CONNECT_INFO, CONNECT_INFO]


def test_connect_fails_when_the_server_is_not_hogsend(cli: Cli, hogsend: FakeHogsend) -> None:
    del hogsend.info["privateHost"]
    outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert "did not respond as a Hogsend server" in outcome.json["error"]


def test_case_168_connect_without_an_admin_key_sends_no_request(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    outcome = cli.connect(admin_key=None)
    assert outcome.code == 1
    assert "HOGSEND_ADMIN_KEY" in outcome.err
    assert "HOGSEND_ADMIN_KEY" in cli.connect(admin_key=None, json=True).json["fix"]
    assert hogsend.requests == []


def test_case_168_the_error_names_the_key_file_of_hogsend_up(cli: Cli, tmp_path: Path) -> None:
    key = tmp_path / ".hogsend" / "secrets" / "admin-api-key"
    key.parent.mkdir(parents=True)
    key.write_text("generated")
    error = cli.connect(admin_key=None).err
    assert str(key.relative_to(tmp_path)) in error
    assert "generated" not in error


@pytest.mark.parametrize(
    ("provider", "flags"),
    [
        (None, {}),
        ("stripe", {}),
        ("posthog", {"provision_only": True, "no_provision": True}),
        ("posthog", {"client_id": "not-a-url"}),
        ("posthog", {"timeout": 0.0}),
        ("posthog", {"timeout": float("inf")}),
        ("posthog", {"timeout": float("nan")}),
        ("posthog", {"url": "localhost:3002"}),
        ("posthog", {"url": "http://me:secret@127.0.0.1:1"}),
    ],
)
def test_wrong_usage_sends_no_request(
    cli: Cli, hogsend: FakeHogsend, provider: str | None, flags: dict[str, Any]
) -> None:
    words = ("connect", provider) if provider else ("connect",)
    options = {"url": hogsend.url, "admin_key": ADMIN_KEY, **flags}
    outcome = cli(*words, **options)
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert "\n  fix: " in outcome.err
    assert "secret" not in outcome.err
    outcome = cli(*words, **options, json=True)
    assert outcome.code == 1
    assert set(outcome.json) == {"error", "fix"}
    assert hogsend.requests == []


def test_a_failure_to_store_the_credential_prints_no_token_and_skips_provisioning(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    text = f"cannot keep {posthog.access_token}"
    hogsend.stored = CannedResponse(503, {"error": text, "detail": text, "remediation": text})
    outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "store_failed"
    assert "503: cannot keep [hidden]" in outcome.json["error"]
    assert posthog.access_token not in outcome.everything
    hogsend.stored = CannedResponse(400, {"success": False, "error": {"name": "ZodError"}})
    assert "request failed with status 400" in cli.connect(json=True).json["error"]
    assert PROVISION not in hogsend.lines


def test_requests_to_loopback_addresses_use_no_proxy(
    cli: Cli, hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("BROWSER", f"env -u http_proxy -u HTTP_PROXY {os.environ['BROWSER']}")
    assert cli.connect(json=True).code == 0
    assert hogsend.lines == [CONNECT_INFO, STORE, PROVISION]


def test_connect_reports_that_the_oauth_credential_replaces_the_personal_api_key(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.info["personalKeyConfigured"] = True
    assert "uses the OAuth credential instead" in cli.connect().out


def test_connect_prints_no_secret(cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog) -> None:
    printed = cli.connect().everything + cli.connect(json=True).everything
    for status in (400, 500):
        for error in (posthog.code, posthog.refresh_token, "invalid_grant"):
            posthog.exchange = CannedResponse(status, {"error": error, "error_description": error})
            printed += cli.connect().everything + cli.connect(json=True).everything
    posthog.exchange = CannedResponse(
        200, {"access_token": posthog.access_token, "refresh_token": 1}
    )
    printed += cli.connect().everything
    posthog.exchange = CannedResponse(200, f'{{"access_token": "{posthog.access_token}'.encode())
    printed += cli.connect().everything
    assert len(posthog.exchanges) == 16
    assert [secret for secret in [*posthog.secrets, ADMIN_KEY] if secret in printed] == []


def test_an_invalid_list_of_allowed_hosts_is_reported_before_posthog_is_called(
    cli: Cli, posthog: FakePostHog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOUND_ALLOW", "posthog.internal, 10.0.0.0/99")
    outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert "OUTBOUND_ALLOW" in outcome.json["error"]
    assert posthog.lines == []


def test_plain_http_to_another_machine_is_a_warning(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    # This name is never looked up: a label has at most 63 characters.
    outcome = cli.connect(url=f"http://{'h' * 64}.example", provision_only=True, json=True)
    assert "plain http" in outcome.err
    assert outcome.code == 1
    assert "plain http" not in cli.connect(provision_only=True, json=True).err


def test_redirects_of_the_hogsend_server_are_not_followed(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.stored = CannedResponse(307, {}, location=f"{hogsend.url}/elsewhere")
    outcome = cli.connect(json=True)
    assert outcome.json["verdict"] == "store_failed"
    assert hogsend.lines == [CONNECT_INFO, STORE]

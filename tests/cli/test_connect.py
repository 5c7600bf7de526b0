"""Acceptance cases 12.10: `hogsend connect posthog` against a Hogsend server and a PostHog."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.admin.client import CREDENTIAL
from cli.connect import authorize
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.scopes import SCOPES
from tests.cli.fakes import (
    ADMIN_KEY,
    CONNECT_INFO,
    MISSING_SCOPE,
    PLACEHOLDER,
    PROVISION,
    STORE,
    FakeHogsend,
    FakePostHog,
)
from tests.cli.recording_server import CannedResponse, RecordedRequest
from tests.cli.running import Cli


@contextmanager
def occupied(*ports: int) -> Iterator[None]:
    """Listen on `ports`, so that no callback server can."""
    with ExitStack() as stack:
        for port in ports:
            server = stack.enter_context(socket.socket())
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))
            server.listen()
        yield


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


def test_case_155_connect_provisions_without_a_configured_webhook_secret(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.info["webhookSecretConfigured"] = False
    assert cli.connect(json=True).json["verdict"] == "connected"
    assert hogsend.lines[-1] == PROVISION


def test_case_156_a_loopback_public_url_creates_a_disabled_placeholder(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.info["apiPublicUrl"] = "http://localhost:3002"
    outcome = cli.connect(json=True)
    assert outcome.code == 0
    assert hogsend.lines[-1] == PLACEHOLDER
    assert outcome.json["verdict"] == "connected_no_provision"
    assert outcome.json["provision"]["attempted"] is True
    assert outcome.json["provision"]["enabled"] is False


def test_case_156_a_refused_placeholder_is_reported_as_skipped(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.info["apiPublicUrl"] = "http://localhost:3002"
    hogsend.placeholder = CannedResponse(409, {"error": "api_public_url_unreachable"})
    outcome = cli.connect(json=True)
    assert outcome.code == 0
    assert outcome.json["verdict"] == "connected_no_provision"
    skipped = {"attempted": False, "skipped": "api_public_url_unreachable"}
    assert outcome.json["provision"] == skipped


def test_case_157_a_provisioning_error_does_not_fail_connect(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.provision = CannedResponse(502, MISSING_SCOPE)
    outcome = cli.connect(json=True)
    assert outcome.code == 0
    assert outcome.json["verdict"] == "connected_no_provision"
    assert outcome.json["credential"]["stored"] is True
    assert outcome.json["provision"] == {
        "attempted": True,
        "ok": False,
        "error": "502: missing-scope",
        "detail": MISSING_SCOPE["detail"],
        "remediation": MISSING_SCOPE["remediation"],
    }
    text = cli.connect().out
    for part in ("502: missing-scope", MISSING_SCOPE["detail"], MISSING_SCOPE["remediation"]):
        assert part in text
    assert "--provision-only" in text


def test_case_157_a_provisioning_error_fails_provision_only(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    hogsend.provision = CannedResponse(502, MISSING_SCOPE)
    outcome = cli.connect(json=True, provision_only=True)
    assert outcome.code == 1
    assert outcome.json == {
        "ok": False,
        "verdict": "provision_failed",
        "error": "502: missing-scope",
        "detail": MISSING_SCOPE["detail"],
        "remediation": MISSING_SCOPE["remediation"],
    }
    assert hogsend.lines == [CONNECT_INFO, PROVISION]
    assert posthog.requests == []
    text = cli.connect(provision_only=True).err
    for part in ("502: missing-scope", MISSING_SCOPE["detail"], MISSING_SCOPE["remediation"]):
        assert part in text


@pytest.mark.parametrize("code", ["posthog_not_configured", "webhook_secret_missing"])
def test_case_157_a_conflict_is_reported_with_its_code(
    cli: Cli, hogsend: FakeHogsend, code: str
) -> None:
    hogsend.provision = CannedResponse(409, {"error": code, "detail": "d", "remediation": "r"})
    soft = cli.connect(json=True).json
    assert (soft["verdict"], soft["provision"]["error"]) == (
        "connected_no_provision",
        f"409: {code}",
    )
    hard = cli.connect(json=True, provision_only=True).json
    assert (hard["verdict"], hard["error"]) == ("provision_failed", f"409: {code}")


def test_case_158_provision_only_fails_without_a_credential(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.provision = CannedResponse(409, {"error": "no_posthog_credential"})
    outcome = cli.connect(json=True, provision_only=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "no_credential"
    assert "hogsend connect posthog" in outcome.json["hint"]


def test_a_destination_of_another_instance_is_listed_with_its_urls(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    other = {
        "hogFunctionId": "f",
        "webhookUrl": "https://old.example/x",
        "dashboardUrl": "https://p/f[/x]",
    }
    hogsend.provision = CannedResponse(200, {"provisioned": True, "otherInstances": [other]})
    outcome = cli.connect(provision_only=True)
    assert "https://old.example/x" in outcome.out
    # Text from PostHog is not interpreted as markup.
    assert "https://p/f[/x]" in outcome.out
    assert "disable the destination in PostHog, or adopt it" in " ".join(outcome.out.split())
    document = cli.connect(provision_only=True, json=True).json
    assert document["provision"]["otherInstances"] == [other]


@pytest.mark.parametrize(
    ("signing", "text"),
    [
        ({"signed": True}, "yes, every delivery"),
        ({"signed": False, "unsignedBecause": "unsupported"}, "no: this version of PostHog cannot"),
        ({"signed": False, "unsignedBecause": "of the future"}, "no: of the future"),
        ({}, None),
    ],
)
def test_connect_reports_whether_deliveries_are_signed(
    cli: Cli, hogsend: FakeHogsend, signing: dict[str, Any], text: str | None
) -> None:
    hogsend.provision = CannedResponse(200, {"provisioned": True, **signing})
    output = cli.connect(provision_only=True).out
    assert (text in output) if text else ("signed" not in output)
    document = cli.connect(provision_only=True, json=True).json["provision"]
    assert {
        key: document[key] for key in ("signed", "unsignedBecause") if key in document
    } == signing


def test_rotate_signing_key_requests_a_new_signing_key(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.provision = CannedResponse(200, {"provisioned": True, "signed": True})
    hogsend.responses[f"{PROVISION}?rotateSigningKey=true"] = hogsend.provision
    outcome = cli.connect(provision_only=True, rotate_signing_key=True)
    assert outcome.code == 0
    assert hogsend.lines == [CONNECT_INFO, f"{PROVISION}?rotateSigningKey=true"]
    assert "signing key replaced; the previous one stays valid for a day" in outcome.out
    assert "  secret" not in outcome.out
    refused = cli.connect(rotate_signing_key=True)
    assert refused.code == 1
    assert "--rotate-signing-key needs --provision-only" in refused.err


def test_rotate_webhook_secret_requests_a_new_webhook_secret(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.provision = CannedResponse(200, {"provisioned": True})
    both = f"{PROVISION}?rotateSigningKey=true&rotateWebhookSecret=true"
    secret_only = f"{PROVISION}?rotateWebhookSecret=true"
    hogsend.responses |= {secret_only: hogsend.provision, both: hogsend.provision}
    assert cli.connect(provision_only=True, rotate_webhook_secret=True).code == 0
    options = {"rotate_webhook_secret": True, "rotate_signing_key": True}
    assert cli.connect(provision_only=True, **options).code == 0
    assert hogsend.lines == [CONNECT_INFO, secret_only, CONNECT_INFO, both]
    refused = cli.connect(rotate_webhook_secret=True)
    assert "--rotate-webhook-secret needs --provision-only" in refused.err


def test_provision_only_reports_an_unreadable_credential_as_unreadable_not_as_missing(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    error = "The stored credential for posthog cannot be decrypted."
    hogsend.provision = CannedResponse(409, {"error": "no_posthog_credential"})
    hogsend.responses[f"GET {CREDENTIAL}"] = CannedResponse(409, {"error": error})
    outcome = cli.connect(json=True, provision_only=True)
    assert outcome.code == 1
    assert (outcome.json["verdict"], outcome.json["detail"]) == ("no_credential", error)
    assert "`hogsend disconnect posthog`" in outcome.json["hint"]


def test_provision_only_does_not_report_a_stored_credential_as_missing(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.provision = CannedResponse(409, {"error": "no_posthog_credential"})
    hogsend.responses[f"GET {CREDENTIAL}"] = CannedResponse(200, {"providerId": "posthog"})
    outcome = cli.connect(json=True, provision_only=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "no_credential"
    assert "is stored" in outcome.json["detail"]
    assert "hogsend doctor" in outcome.json["hint"]


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


def test_case_159_provision_only_fails_with_a_loopback_public_url(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.info["apiPublicUrl"] = "http://127.1:3002"
    outcome = cli.connect(json=True, provision_only=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "api_public_url_unreachable"
    assert "--provision-only" in outcome.json["hint"]
    assert hogsend.lines == [CONNECT_INFO]


def test_provision_only_uses_the_stored_credential(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    hogsend.provision = CannedResponse(200, {"provisioned": True})
    outcome = cli.connect(json=True, provision_only=True)
    assert outcome.code == 0
    assert outcome.json == {
        "ok": True,
        "verdict": "connected",
        "providerId": "posthog",
        "instance": hogsend.url,
        "posthog": None,
        "credential": {"stored": False},
        "provision": {"attempted": True, "ok": True},
    }
    assert posthog.requests == []
    assert "(unknown)" in cli.connect(provision_only=True).out


def test_case_160_no_provision_stores_the_grant_and_creates_no_destination(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    outcome = cli.connect(json=True, no_provision=True)
    assert outcome.code == 0
    assert outcome.json["verdict"] == "connected_no_provision"
    assert outcome.json["provision"] == {"attempted": False, "skipped": "no_provision_flag"}
    assert hogsend.lines == [CONNECT_INFO, STORE]


@pytest.mark.parametrize("status", [404, 410])
def test_case_161_a_posthog_without_an_oauth_server_is_unsupported(
    cli: Cli,
    hogsend: FakeHogsend,
    posthog: FakePostHog,
    callback_ports: tuple[int, ...],
    status: int,
) -> None:
    posthog.discovery = CannedResponse(status, {})
    with occupied(*callback_ports):  # starting a callback server would end with another verdict
        outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "oauth_unsupported"
    hint = outcome.json["hint"]
    for word in ("person:read", "project:read", "hog_function:write", "POSTHOG_PERSONAL_API_KEY"):
        assert word in hint
    assert hogsend.lines == [CONNECT_INFO]


def test_a_posthog_without_client_documents_is_unsupported_before_the_callback_server_starts(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog, callback_ports: tuple[int, ...]
) -> None:
    document = posthog.document
    del document["client_id_metadata_document_supported"]
    posthog.discovery = CannedResponse(200, document)
    with occupied(*callback_ports):
        outcome = cli.connect(json=True)
    assert (outcome.code, outcome.json["verdict"]) == (1, "oauth_unsupported")
    assert "POSTHOG_PERSONAL_API_KEY" in outcome.json["hint"]
    assert hogsend.lines == [CONNECT_INFO]
    # A client id of the operator may be registered in PostHog.
    own = "https://events.example.com/.well-known/oauth-client.json"
    assert cli.connect(client_id=own, json=True).code == 0


def test_case_162_a_callback_with_a_wrong_state_stores_no_credential(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    posthog.consent = {"state": "of-another-run"}
    outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "state_mismatch"
    assert posthog.exchanges == []
    assert hogsend.lines == [CONNECT_INFO]


def test_case_163_a_denied_consent_stores_no_credential(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    posthog.consent = {"error": "access_denied", "code": ""}
    outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "consent_denied"
    assert hogsend.lines == [CONNECT_INFO]


@pytest.mark.parametrize("callback", [{"error": "invalid_scope", "code": ""}, {"code": ""}])
def test_a_callback_without_a_code_ends_with_exchange_failed(
    cli: Cli, posthog: FakePostHog, callback: dict[str, str]
) -> None:
    posthog.consent = callback
    outcome = cli.connect(json=True)
    assert outcome.json["verdict"] == "exchange_failed"
    assert callback.get("error", "") in outcome.json["error"]
    assert posthog.exchanges == []


def test_case_164_connect_fails_when_all_callback_ports_are_in_use(
    cli: Cli, hogsend: FakeHogsend, callback_ports: tuple[int, ...]
) -> None:
    with occupied(*callback_ports):
        outcome = cli.connect(json=True)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "port_unavailable"
    for port in callback_ports:
        assert str(port) in outcome.json["error"]
    assert hogsend.lines == [CONNECT_INFO]


def test_case_164_the_next_free_port_is_used(
    cli: Cli, posthog: FakePostHog, callback_ports: tuple[int, ...]
) -> None:
    with occupied(*callback_ports[:2]):
        assert cli.connect(json=True).code == 0
    (exchange,) = posthog.exchanges
    assert exchange.form["redirect_uri"] == [f"http://127.0.0.1:{callback_ports[2]}/callback"]


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


def test_case_166_scopes_that_were_not_granted_are_listed(cli: Cli, posthog: FakePostHog) -> None:
    granted = [scope for scope in SCOPES if scope != "query:read"]
    posthog.tokens["scope"] = " ".join(granted)
    outcome = cli.connect()
    assert "missing: query:read" in outcome.out
    implied = [scope for scope in SCOPES if scope not in {"person:read", "cohort:read"}]
    posthog.tokens["scope"] = " ".join(implied)
    assert "missing:" not in cli.connect().out


@pytest.mark.parametrize("granted", ["", "openid profile email"])
def test_a_grant_without_any_requested_scope_does_not_replace_the_stored_credential(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog, granted: str
) -> None:
    posthog.tokens["scope"] = granted
    outcome = cli.connect(json=True)
    assert (outcome.code, outcome.json["verdict"]) == (1, "exchange_failed")
    assert "none of the scopes" in outcome.json["error"]
    assert "PUT" not in {request.line.partition(" ")[0] for request in hogsend.requests}


def test_a_token_response_without_scopes_grants_the_requested_scopes(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    for key in ("scope", "scoped_teams", "scoped_organizations"):
        del posthog.tokens[key]
    assert cli.connect(json=True).code == 0
    assert hogsend.payload["scopes"] == list(SCOPES)
    assert hogsend.payload["scopedTeams"] == []
    assert hogsend.payload["scopedOrganizations"] == []


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


def test_the_client_id_flag_is_sent_to_posthog_and_stored_with_the_grant(
    cli: Cli, hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    own = "https://t.example.com/.well-known/hogsend-posthog-client.json"
    assert cli.connect(client_id=own, json=True).code == 0
    (authorize,) = [request for request in posthog.requests if request.path == "/oauth/authorize/"]
    assert authorize.query["client_id"] == own
    assert posthog.exchanges[0].form["client_id"] == [own]
    assert hogsend.payload["clientId"] == own


def test_a_missing_consent_times_out(
    cli: Cli,
    hogsend: FakeHogsend,
    callback_ports: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROWSER", "true")
    outcome = cli.connect(json=True, timeout=0.2)
    assert outcome.code == 1
    assert outcome.json["verdict"] == "callback_timeout"
    assert hogsend.lines == [CONNECT_INFO]
    with occupied(*callback_ports):  # fails unless the ports are free again
        pass


@pytest.mark.parametrize("browser", ["false", None])
def test_the_authorize_url_is_printed_when_no_browser_opens(
    cli: Cli,
    callback_ports: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
    browser: str | None,
) -> None:
    monkeypatch.setattr(authorize, "CONTAINER_MARKS", ())
    if browser is None:
        monkeypatch.delenv("BROWSER")
    else:
        monkeypatch.setenv("BROWSER", browser)
    outcome = cli.connect(timeout=0.2)
    assert "no browser could be opened" in outcome.out
    assert "/oauth/authorize/?response_type=code" in outcome.out
    port = callback_ports[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port}" in outcome.out


def test_a_container_gets_a_hint_without_an_ssh_tunnel(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container runs no ssh server, and other machines cannot resolve its host name."""
    monkeypatch.setattr(authorize, "CONTAINER_MARKS", (tmp_path / "none", tmp_path))
    outcome = cli.connect(no_browser=True, timeout=0.2)
    assert "ssh" not in outcome.out
    assert "hogsend connect posthog --url <URL of the gateway>" in " ".join(outcome.out.split())


def test_the_ssh_hint_omits_the_name_of_a_user_without_a_passwd_entry(
    cli: Cli, callback_ports: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", fail)
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.7 22")
    outcome = cli.connect(no_browser=True, timeout=0.2)
    port = callback_ports[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port} 192.0.2.7\n" in outcome.out


def test_a_reloaded_callback_gets_410_during_the_exchange(cli: Cli, posthog: FakePostHog) -> None:
    statuses: list[int] = []

    def reload(request: RecordedRequest) -> None:
        statuses.append(
            httpx.get(request.form["redirect_uri"][0], params={"code": "x"}).status_code
        )

    posthog.during_exchange = reload
    assert cli.connect(json=True).code == 0
    assert statuses == [410]


def test_requests_to_loopback_addresses_use_no_proxy(
    cli: Cli, hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("BROWSER", f"env -u http_proxy -u HTTP_PROXY {os.environ['BROWSER']}")
    assert cli.connect(json=True).code == 0
    assert hogsend.lines == [CONNECT_INFO, STORE, PROVISION]


def test_an_issuer_on_another_host_is_only_a_warning(cli: Cli, posthog: FakePostHog) -> None:
    posthog.issuer = "https://login.example.com"
    outcome = cli.connect(json=True)
    assert outcome.json["verdict"] == "connected"
    assert "https://login.example.com" in outcome.err
    posthog.issuer = f"{posthog.url}/with/a/path"
    assert cli.connect(json=True).err == ""


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

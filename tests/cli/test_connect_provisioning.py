"""`hogsend connect posthog`: the webhook destination, also with `--provision-only` (12.10)."""

from __future__ import annotations

from typing import Any

import pytest

from cli.admin.client import CREDENTIAL
from tests.cli.fakes import (
    CONNECT_INFO,
    MISSING_SCOPE,
    PLACEHOLDER,
    PROVISION,
    STORE,
    FakeHogsend,
    FakePostHog,
)
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli


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

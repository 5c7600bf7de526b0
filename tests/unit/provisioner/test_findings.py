"""Findings that need no request to PostHog, each with its remediation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from hogsend.contract.credentials import CredentialStatus
from hogsend.contract.errors import Forbidden, HogsendError, Unavailable
from hogsend.posthog.scopes import SCOPES
from services.provisioner.diagnosis import findings

DOWN = Unavailable("the credentials service is not running")
FORBIDDEN = Forbidden("NATS user 'provisioner' may not publish to a.b")
EXPIRES = datetime(2026, 6, 13, 4, tzinfo=UTC)


def status(**changes: Any) -> CredentialStatus:
    values: dict[str, Any] = {
        "version": 1,
        "oauth": "present",
        "scopes": ["person:read"],
        "webhook_secret": "present",
        "expires_at": EXPIRES,
    }
    return CredentialStatus(**{**values, **changes})


def test_a_working_grant_has_no_remediation() -> None:
    finding = findings.credential(status())
    assert (finding.state, finding.refresh_failing) == ("present", False)
    assert (finding.scopes, finding.expires_at) == (["person:read"], EXPIRES)
    assert (finding.detail, finding.remediation) == (None, None)


@pytest.mark.parametrize(
    ("stored", "state", "failing", "detail", "remediation"),
    [
        (DOWN, "unknown", False, "did not answer", "hogsend status"),
        (FORBIDDEN, "unknown", False, "may not publish to a.b.", "deploy/nats"),
        (status(oauth="unreadable"), "unreadable", False, "decrypted", "SECRET_PREVIOUS"),
        (status(oauth="absent"), "absent", False, "No OAuth", "hogsend connect posthog"),
        (status(needs_reconnect=True), "needs_reconnect", True, "refresh token", "connect posthog"),
        (status(refresh_error="it said 500"), "present", True, "it said 500", "retried"),
    ],
    ids=["down", "forbidden", "unreadable", "absent", "needs_reconnect", "failing"],
)
def test_each_state_of_the_grant_has_its_remediation(
    stored: CredentialStatus | HogsendError,
    state: str,
    failing: bool,
    detail: str,
    remediation: str,
) -> None:
    finding = findings.credential(stored)
    assert (finding.state, finding.refresh_failing) == (state, failing)
    assert detail in (finding.detail or "")
    assert remediation in (finding.remediation or "")


def test_a_grant_that_needs_reconnecting_is_reported_with_its_scopes_and_expiry() -> None:
    finding = findings.credential(status(needs_reconnect=True, refresh_error="x"))
    assert (finding.scopes, finding.expires_at) == (["person:read"], EXPIRES)


def test_an_absent_grant_has_no_remediation_when_a_personal_key_is_set() -> None:
    finding = findings.credential(status(oauth="absent", personal_key=True))
    assert (finding.state, finding.remediation) == ("absent", None)
    assert "personal API key is used" in (finding.detail or "")


@pytest.mark.parametrize("stored", [DOWN, status(), status(webhook_secret="absent")])
def test_a_configured_secret_takes_precedence(stored: CredentialStatus | HogsendError) -> None:
    finding = findings.webhook_secret(stored, configured=True)
    assert (finding.state, finding.source) == ("present", "environment")
    assert (finding.detail, finding.remediation) == (None, None)


def test_an_unreadable_generated_payload_is_reported_despite_a_configured_secret() -> None:
    finding = findings.webhook_secret(status(webhook_secret="unreadable"), configured=True)
    assert (finding.state, finding.source) == ("present", "environment")
    assert "hogsend disconnect" in str(finding.remediation)


def test_connecting_again_is_no_remedy_for_an_unreadable_generated_secret() -> None:
    finding = findings.credential(status(oauth="unreadable", webhook_secret="unreadable"))
    assert "`hogsend disconnect posthog`" in str(finding.remediation)
    secret = findings.webhook_secret(status(webhook_secret="unreadable"), configured=False)
    assert secret.remediation == finding.remediation


@pytest.mark.parametrize(
    ("stored", "state", "source", "remediation"),
    [
        (status(webhook_secret="present"), "present", "minted", None),
        (status(webhook_secret="unreadable"), "unreadable", "minted", "SECRET_PREVIOUS"),
        (status(webhook_secret="absent"), "absent", "none", "hogsend connect posthog"),
        (DOWN, "unknown", "none", "hogsend status"),
        (FORBIDDEN, "unknown", "none", "deploy/nats"),
    ],
)
def test_each_state_of_a_generated_secret_has_its_remediation(
    stored: CredentialStatus | HogsendError,
    state: Literal["present", "absent", "unreadable", "unknown"],
    source: str,
    remediation: str | None,
) -> None:
    finding = findings.webhook_secret(stored, configured=False)
    assert (finding.state, finding.source) == (state, source)
    assert finding.remediation is None if remediation is None else remediation in str(finding)


def test_the_scope_gap_contains_the_scopes_that_the_grant_lacks() -> None:
    assert findings.scope_gap(status(scopes=list(SCOPES))) == []
    gap = findings.scope_gap(status(scopes=["person:write"]))
    assert "organization:read" in gap
    assert "person:read" not in gap


@pytest.mark.parametrize("stored", [DOWN, status(oauth="absent"), status(oauth="unreadable")])
def test_the_scope_gap_is_empty_without_a_readable_grant(
    stored: CredentialStatus | HogsendError,
) -> None:
    assert findings.scope_gap(stored) == []


def test_a_loopback_public_url_has_a_remediation() -> None:
    finding = findings.public_url("http://localhost:3002")
    assert (finding.url, finding.loopback) == ("http://localhost:3002", True)
    assert "API_PUBLIC_URL" in (finding.remediation or "")


def test_a_public_url_has_no_remediation() -> None:
    finding = findings.public_url("https://t.example.com")
    assert (finding.loopback, finding.detail, finding.remediation) == (False, None, None)

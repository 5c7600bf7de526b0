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


def test_a_working_grant_needs_nothing() -> None:
    found = findings.credential(status())
    assert (found.state, found.refresh_failing) == ("present", False)
    assert (found.scopes, found.expires_at) == (["person:read"], EXPIRES)
    assert (found.detail, found.remediation) == (None, None)


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
    found = findings.credential(stored)
    assert (found.state, found.refresh_failing) == (state, failing)
    assert detail in (found.detail or "")
    assert remediation in (found.remediation or "")


def test_a_grant_that_must_be_renewed_still_shows_what_it_was() -> None:
    found = findings.credential(status(needs_reconnect=True, refresh_error="x"))
    assert (found.scopes, found.expires_at) == (["person:read"], EXPIRES)


def test_with_a_personal_key_an_absent_grant_needs_nothing() -> None:
    found = findings.credential(status(oauth="absent", personal_key=True))
    assert (found.state, found.remediation) == ("absent", None)
    assert "personal API key is used" in (found.detail or "")


def test_a_configured_secret_takes_precedence() -> None:
    found = findings.webhook_secret(DOWN, configured=True)
    assert (found.state, found.source, found.remediation) == ("present", "environment", None)


def test_an_unreadable_minted_payload_is_reported_despite_a_configured_secret() -> None:
    found = findings.webhook_secret(status(webhook_secret="unreadable"), configured=True)
    assert (found.state, found.source) == ("present", "environment")
    assert "hogsend disconnect" in str(found.remediation)


def test_connecting_again_is_no_remedy_for_an_unreadable_minted_secret() -> None:
    found = findings.credential(status(oauth="unreadable", webhook_secret="unreadable"))
    assert "`hogsend disconnect posthog`" in str(found.remediation)
    secret = findings.webhook_secret(status(webhook_secret="unreadable"), configured=False)
    assert secret.remediation == found.remediation


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
def test_each_state_of_a_minted_secret_has_its_remediation(
    stored: CredentialStatus | HogsendError,
    state: Literal["present", "absent", "unreadable", "unknown"],
    source: str,
    remediation: str | None,
) -> None:
    found = findings.webhook_secret(stored, configured=False)
    assert (found.state, found.source) == (state, source)
    assert found.remediation is None if remediation is None else remediation in str(found)


def test_the_scope_gap_is_what_the_grant_lacks() -> None:
    assert findings.scope_gap(status(scopes=list(SCOPES))) == []
    gap = findings.scope_gap(status(scopes=["person:write"]))
    assert "organization:read" in gap
    assert "person:read" not in gap


@pytest.mark.parametrize("stored", [DOWN, status(oauth="absent"), status(oauth="unreadable")])
def test_without_a_readable_grant_there_is_no_gap(stored: CredentialStatus | HogsendError) -> None:
    assert findings.scope_gap(stored) == []


def test_a_loopback_public_url_has_a_remediation() -> None:
    found = findings.public_url("http://localhost:3002")
    assert (found.url, found.loopback) == ("http://localhost:3002", True)
    assert "API_PUBLIC_URL" in (found.remediation or "")


def test_a_public_url_has_none() -> None:
    found = findings.public_url("https://t.example.com")
    assert (found.loopback, found.detail, found.remediation) == (False, None, None)

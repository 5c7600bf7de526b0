"""The results of `hogsend connect`, and the documents `--json` prints (contract 8.4 and 8.5)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from cli.admin.messages import OtherDestination


class Verdict(StrEnum):
    """The result in one word. Scripts rely on these names."""

    CONNECTED = "connected"
    CONNECTED_NO_PROVISION = "connected_no_provision"
    NOT_CONFIGURED = "not_configured"
    OAUTH_UNSUPPORTED = "oauth_unsupported"
    DISCOVERY_FAILED = "discovery_failed"
    PORT_UNAVAILABLE = "port_unavailable"
    CONSENT_DENIED = "consent_denied"
    STATE_MISMATCH = "state_mismatch"
    CALLBACK_TIMEOUT = "callback_timeout"
    EXCHANGE_FAILED = "exchange_failed"
    STORE_FAILED = "store_failed"
    NO_CREDENTIAL = "no_credential"
    API_PUBLIC_URL_UNREACHABLE = "api_public_url_unreachable"
    PROVISION_FAILED = "provision_failed"


class ConnectError(Exception):
    """A step failed, and with it the command. The text is safe to print."""

    def __init__(
        self,
        verdict: Verdict,
        problem: str,
        *,
        hint: str | None = None,
        detail: str | None = None,
        remediation: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.verdict = verdict
        self.hint = hint
        self.detail = detail
        self.remediation = remediation


class Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the documents. Absent keys are `UNSET`, never null."""


class PostHogSide(Document, frozen=True, kw_only=True):
    """The PostHog that granted access, and what it granted."""

    private_host: str
    issuer: str
    scopes: str
    """Separated by spaces, as in OAuth."""
    scoped_teams: list[int]
    scoped_organizations: list[str]


class StoredCredential(Document, frozen=True, kw_only=True):
    """Whether this run stored a credential, and when its access token expires."""

    stored: bool
    expires_at: str | UnsetType = UNSET


class Provisioned(Document, frozen=True, kw_only=True):
    """The webhook destination in PostHog is in place. Fields that the server omits are absent."""

    attempted: bool = True
    ok: bool = True
    created: bool | UnsetType = UNSET
    hog_function_id: str | UnsetType = UNSET
    webhook_url: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    dashboard_url: str | UnsetType = UNSET
    other_instances: list[OtherDestination] | UnsetType = UNSET
    """Left alone: they deliver to another instance, or to one that is no more."""
    signed: bool | UnsetType = UNSET
    unsigned_because: str | UnsetType = UNSET


class NotProvisioned(Document, frozen=True, kw_only=True):
    """Provisioning failed. `detail` and `remediation` are the server's sentences.

    `hint` is the command's, where the server has no remediation.
    """

    attempted: bool = True
    ok: bool = False
    error: str
    detail: str | UnsetType = UNSET
    remediation: str | UnsetType = UNSET
    hint: str | UnsetType = UNSET


class Skipped(Document, frozen=True, kw_only=True):
    """No destination that delivers was provisioned."""

    attempted: bool = False
    skipped: Literal["no_provision_flag", "api_public_url_unreachable"]


class Connected(Document, frozen=True, kw_only=True):
    """Success: a credential is stored, by this run or before it."""

    ok: bool = True
    verdict: Verdict
    provider_id: Literal["posthog"] = "posthog"
    instance: str
    posthog: PostHogSide | None = None
    credential: StoredCredential
    provision: Provisioned | NotProvisioned | Skipped


class Failed(Document, frozen=True, kw_only=True):
    """A step failed: exit code 1."""

    ok: bool = False
    verdict: Verdict
    error: str
    hint: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    remediation: str | UnsetType = UNSET


def failure(failed: ConnectError) -> Failed:
    """Return the document of a failed run."""
    return Failed(
        verdict=failed.verdict,
        error=str(failed),
        hint=failed.hint or UNSET,
        detail=failed.detail or UNSET,
        remediation=failed.remediation or UNSET,
    )

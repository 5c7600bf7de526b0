"""The results of `hogsend connect`, which are its JSON documents (contract 8.4 and 8.5)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from cli.admin.messages import OtherDestination


class Verdict(StrEnum):
    """The result as one word. Scripts rely on these names."""

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
    """A step failed, which ends the command. The text is safe to print."""

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
    """Base of the JSON documents. An absent field is `UNSET` and left out, never null."""


class PostHogSide(Document, frozen=True, kw_only=True):
    """The PostHog that granted access, and the granted scopes."""

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
    """The webhook destination exists in PostHog. Fields that the server omits are absent."""

    attempted: bool = True
    ok: bool = True
    created: bool | UnsetType = UNSET
    hog_function_id: str | UnsetType = UNSET
    webhook_url: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    dashboard_url: str | UnsetType = UNSET
    other_instances: list[OtherDestination] | UnsetType = UNSET
    """Destinations that deliver to other URLs, which were left unchanged."""
    signed: bool | UnsetType = UNSET
    unsigned_because: str | UnsetType = UNSET


class NotProvisioned(Document, frozen=True, kw_only=True):
    """Provisioning failed.

    `detail` and `remediation` are texts of the server. `hint` is the command's fix, for a failure
    without a remediation.
    """

    attempted: bool = True
    ok: bool = False
    error: str
    detail: str | UnsetType = UNSET
    remediation: str | UnsetType = UNSET
    hint: str | UnsetType = UNSET


class Skipped(Document, frozen=True, kw_only=True):
    """No destination that delivers events was provisioned."""

    attempted: bool = False
    skipped: Literal["no_provision_flag", "api_public_url_unreachable"]


class Connected(Document, frozen=True, kw_only=True):
    """Success: a credential is stored, by this run or an earlier one."""

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

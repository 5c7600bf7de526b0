"""`GET /v1/admin/analytics/connect-info`: what the CLI reads before it connects (contract 1.1)."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import get
from litestar.di import NamedDependency

from hogsend.contract.credentials import CREDENTIALS_STATUS, POSTHOG, ProviderRef
from hogsend.posthog import scopes
from hogsend.service.settings.shared import PostHogSettings, PublicUrlSettings
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, admin_only
from services.gateway.error_responses import admin_errors


class ConnectInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The configuration for PostHog. For secrets only whether they are set."""

    provider_id: Literal["posthog"] = "posthog"
    analytics_configured: bool
    """Whether `POSTHOG_API_KEY` is set."""
    private_host: str | None
    """URL of PostHog's app and API, for example `https://eu.posthog.com`; null without any PostHog
    setting."""
    host_explicit: bool
    """Whether `POSTHOG_HOST` or `POSTHOG_PRIVATE_HOST` is set. Otherwise `privateHost` is the
    default."""
    project_id_hint: str | None
    """`POSTHOG_PROJECT_ID`; null if it is not set."""
    personal_key_configured: bool
    """Whether `POSTHOG_PERSONAL_API_KEY` is set."""
    webhook_secret_configured: bool
    """Whether there is a webhook secret, set by the operator or generated."""
    api_public_url: str
    """`API_PUBLIC_URL`, the base of the URL that PostHog delivers to."""
    scope_gap: list[str]
    """OAuth scopes that Hogsend uses and the stored grant lacks. Empty without a grant."""


@get(
    "/v1/admin/analytics/connect-info",
    guards=[admin_only],
    operation_id="getConnectInfo",
    summary="Show what is configured for PostHog",
    tags=["Admin"],
    security=ADMIN_SECURITY,
    responses=admin_errors(),
)
async def get_connect_info(
    bus: NamedDependency[Connection],
    posthog: NamedDependency[PostHogSettings],
    public: NamedDependency[PublicUrlSettings],
) -> ConnectInfo:
    """Show the configuration for PostHog, and the scopes that the stored OAuth grant lacks."""
    stored = await bus.request(CREDENTIALS_STATUS, ProviderRef(provider_id=POSTHOG))
    return ConnectInfo(
        analytics_configured=posthog.posthog_api_key is not None,
        private_host=posthog.private_host,
        host_explicit=posthog.host_explicit,
        project_id_hint=posthog.posthog_project_id,
        personal_key_configured=posthog.posthog_personal_api_key is not None,
        webhook_secret_configured=posthog.posthog_webhook_secret is not None
        or stored.webhook_secret == "present",  # noqa: S105
        api_public_url=public.api_public_url,
        scope_gap=scopes.missing(stored.scopes) if stored.oauth == "present" else [],
    )

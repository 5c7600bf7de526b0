"""`/v1/admin/analytics`: what the CLI asks before it connects PostHog (contract 1.1)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from litestar import Controller, Request, get
from litestar.di import NamedDependency

from hogsend.contract.credentials import CREDENTIALS_STATUS, ProviderRef
from hogsend.posthog import scopes
from hogsend.service.settings import PostHogSettings, PublicUrlSettings
from hogsend.transport.connection import Connection
from services.gateway.auth import admin_only
from services.gateway.error_responses import documented
from services.gateway.response_headers import correlation


class ConnectInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What this instance has for PostHog. Only whether a secret is set, never a secret."""

    provider_id: Literal["posthog"] = "posthog"
    analytics_configured: bool
    private_host: str | None
    host_explicit: bool
    project_id_hint: str | None
    personal_key_configured: bool
    webhook_secret_configured: bool
    api_public_url: str
    scope_gap: list[str]


class AnalyticsController(Controller):
    """The PostHog side of this instance."""

    path = "/v1/admin/analytics"
    guards = [admin_only]  # noqa: RUF012 - litestar reads class attributes
    tags = ["Admin"]  # noqa: RUF012
    security = [{"adminKey": []}]  # noqa: RUF012

    @get(
        "/connect-info",
        operation_id="getConnectInfo",
        summary="What is configured for PostHog",
        responses=documented(401, 403, 429, 503),
    )
    async def connect_info(
        self,
        bus: NamedDependency[Connection],
        posthog: NamedDependency[PostHogSettings],
        public: NamedDependency[PublicUrlSettings],
        request: Request[Any, Any, Any],
    ) -> ConnectInfo:
        """Tell what is configured, and which scopes the stored grant lacks."""
        stored = await bus.request(
            CREDENTIALS_STATUS, ProviderRef(provider_id="posthog"), headers=correlation(request)
        )
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

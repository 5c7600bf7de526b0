"""The head of the gateway's OpenAPI document, and where it is shown."""

from __future__ import annotations

from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from hogsend import __version__
from services.gateway.notices.openapi import WEBHOOKS


def openapi_config() -> OpenAPIConfig:
    """Describe the API as a whole; routes describe themselves."""
    return OpenAPIConfig(
        title="Hogsend gateway",
        version=__version__,
        description="PostHog webhooks in, credentials and stored events for administrators. "
        "Everything else happens on NATS; see docs/bus.md.",
        path="/docs",
        webhooks={**WEBHOOKS},
        use_handler_docstrings=True,
        render_plugins=[
            SwaggerRenderPlugin(
                js_url="/docs/assets/swagger-ui-bundle.js",
                css_url="/docs/assets/swagger-ui.css",
                standalone_preset_js_url="/docs/assets/swagger-ui-standalone-preset.js",
                favicon="",
            ),
            JsonRenderPlugin(path="/openapi.json"),
        ],
        components=Components(
            security_schemes={
                "webhookSecret": SecurityScheme(
                    type="apiKey", name="x-posthog-webhook-secret", security_scheme_in="header"
                ),
                "adminKey": SecurityScheme(
                    type="http", scheme="bearer", description="ADMIN_API_KEY"
                ),
                "ingestKey": SecurityScheme(
                    type="http", scheme="bearer", description="INGEST_API_KEY"
                ),
            }
        ),
    )

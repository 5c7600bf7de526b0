"""The head of the gateway's OpenAPI document, and where it is shown."""

from __future__ import annotations

from litestar import Router
from litestar.datastructures import ResponseHeader
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from hogsend import __version__
from hogsend.contract.json_numbers import MAX_DIGITS
from hogsend.contract.json_text import MAX_DEPTH
from hogsend.contract.webhooks import SECRET_HEADER
from services.gateway.described_headers import COMPONENTS
from services.gateway.notices.openapi import WEBHOOKS

_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Keys are typed into the page, and the console's session is valid there: it calls no other host.

Litestar writes the script that begins it, and Swagger UI its styles, into the page itself.
"""


def openapi_config() -> OpenAPIConfig:
    """Describe the API as a whole; routes describe themselves."""
    return OpenAPIConfig(
        title="Hogsend gateway",
        version=__version__,
        description="PostHog webhooks in, credentials and stored events for administrators. "
        "Everything else happens on NATS; see docs/bus.md. In the JSON of a request a number is "
        "one that a double can hold (1e400 is answered 400), exponents stand for no more than "
        f"{MAX_DIGITS:,} digits in all, nothing is nested more than "
        f"{MAX_DEPTH} deep, the last of several values of one name counts, and half a character "
        "(`\\ud83d` alone) is taken for U+FFFD.",
        openapi_router=Router(
            "/docs",
            route_handlers=[],
            include_in_schema=False,
            response_headers=[ResponseHeader(name="Content-Security-Policy", value=_POLICY)],
        ),
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
            headers={**COMPONENTS},
            security_schemes={
                "webhookSecret": SecurityScheme(
                    type="apiKey", name=SECRET_HEADER, security_scheme_in="header"
                ),
                "adminKey": SecurityScheme(
                    type="http", scheme="bearer", description="ADMIN_API_KEY"
                ),
                "readKey": SecurityScheme(
                    type="http", scheme="bearer", description="ADMIN_READ_API_KEY"
                ),
                "ingestKey": SecurityScheme(
                    type="http", scheme="bearer", description="INGEST_API_KEY"
                ),
            },
        ),
    )

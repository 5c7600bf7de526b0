"""The configuration of the gateway's OpenAPI document and of the pages that show it."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Litestar, Request, Router
from litestar.datastructures import ResponseHeader
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import BeforeRequestHookHandler

from hogsend import __version__
from hogsend.contract.json_numbers import MAX_DIGITS
from hogsend.contract.json_text import MAX_DEPTH
from hogsend.contract.webhooks import SECRET_HEADER
from services.gateway.described_headers import COMPONENTS
from services.gateway.notices.openapi import WEBHOOKS
from services.gateway.union_schemas import DocumentConfig

_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content security policy of the Swagger UI page. It may contact no other host, because operators
enter keys into it and their console session is valid on it.

Inline code is allowed because Litestar writes the start script, and Swagger UI its styles, inline.
"""


def openapi_config() -> OpenAPIConfig:
    """Return the description of the API as a whole. Each route describes itself."""
    return DocumentConfig(
        title="Hogsend gateway",
        version=__version__,
        description="Accepts PostHog's webhooks, and gives administrators access to credentials "
        "and stored events. Everything else happens on NATS; see docs/bus.md.\n\n"
        "Rules for the JSON of requests: a number must fit into a double (1e400 is answered 400). "
        f"Exponents may stand for at most {MAX_DIGITS:,} digits in all. The nesting may be at most "
        f"{MAX_DEPTH} deep. If a name occurs several times in an object, its last value is used. "
        "A lone surrogate, such as `\\ud83d`, is replaced by U+FFFD.",
        openapi_router=Router(
            "/docs",
            route_handlers=[],
            include_in_schema=False,
            before_request=_build_document_in_thread(),
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


def _build_document_in_thread() -> BeforeRequestHookHandler:
    """Return a hook that builds the document in a thread, unless it is built already.

    Litestar builds it at the first request, which takes about a third of a second. In the event
    loop's thread that would delay all other requests. A build at start would cost every gateway
    that time, also those whose document is never requested.
    """
    lock = asyncio.Lock()

    async def build_document(request: Request[Any, Any, Any]) -> None:
        async with lock:
            await asyncio.to_thread(_build, request.app)

    return build_document


def _build(app: Litestar) -> None:
    # Litestar keeps the document, and the document its JSON values.
    app.openapi_schema.to_schema()

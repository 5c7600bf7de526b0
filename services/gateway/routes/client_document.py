"""The OAuth client documents that PostHog fetches (spec 3.1)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from litestar import Request, get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency

from hogsend.posthog.client_document import (
    OWN_PATH,
    PATH,
    ClientDocument,
    client_document,
    console_callback,
)
from hogsend.service.settings.shared import PublicUrlSettings
from hogsend.urls import is_loopback
from services.gateway.admin_keys import AdminKeys

CACHE = CacheControlHeader(max_age=3600, public=True)
OWN_CACHE = CacheControlHeader(max_age=300, public=True)
"""Short, because this document changes with `API_PUBLIC_URL` and `CONSOLE`. PostHog caches every
document for at least five minutes."""


@get(
    PATH,
    cache_control=CACHE,
    operation_id="getHogsendClientDocument",
    summary="Describe Hogsend as an OAuth client",
    tags=["OAuth"],
)
async def get_hogsend_client_document() -> ClientDocument:
    """Describe Hogsend to PostHog's OAuth server, with the document that hogsend.com serves."""
    return client_document()


@get(
    OWN_PATH,
    cache_control=OWN_CACHE,
    operation_id="getOwnClientDocument",
    summary="Describe this instance as an OAuth client",
    tags=["OAuth"],
)
async def get_own_client_document(
    request: Request[Any, Any, Any], public: NamedDependency[PublicUrlSettings]
) -> ClientDocument:
    """Describe this instance to PostHog's OAuth server, for operators who connect as this client.

    PostHog accepts a document only if its `client_id` is the URL from which it was fetched. The URL
    is below `API_PUBLIC_URL`, or below the requested host if that is on loopback.
    """
    requested = str(request.base_url).rstrip("/")
    public_url = public.api_public_url.rstrip("/")
    is_public = urlsplit(requested).netloc == urlsplit(public_url).netloc
    base = requested if is_loopback(requested) and not is_public else public_url
    keys: AdminKeys = request.app.state.admin_keys
    callback = console_callback(base) if keys.console else None
    return client_document(f"{base}{OWN_PATH}", base, *([callback] if callback else []))

"""The OAuth client documents PostHog fetches (seed, "The OAuth client")."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from litestar import Request, get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency

from hogsend.posthog.client_document import OWN_PATH, PATH, ClientDocument
from hogsend.posthog.client_document import client_document as document
from hogsend.service.settings import PublicUrlSettings
from hogsend.urls import is_loopback

CACHE = CacheControlHeader(max_age=3600, public=True)


@get(
    PATH,
    cache_control=CACHE,
    operation_id="getHogsendClientDocument",
    summary="Describe Hogsend as an OAuth client",
    tags=["OAuth"],
)
async def client_document() -> ClientDocument:
    """Describe Hogsend to PostHog's OAuth server, as hogsend.com does."""
    return document()


@get(
    OWN_PATH,
    cache_control=CACHE,
    operation_id="getOwnClientDocument",
    summary="Describe this instance as an OAuth client",
    tags=["OAuth"],
)
async def own_client_document(
    request: Request[Any, Any, Any], public: NamedDependency[PublicUrlSettings]
) -> ClientDocument:
    """Describe this instance to PostHog's OAuth server, for `hogsend connect --client-id`.

    PostHog only takes a document whose `client_id` is the URL it was fetched at: that is
    `API_PUBLIC_URL`, or on this machine the address that was asked.
    """
    asked = str(request.base_url).rstrip("/")
    public_url = public.api_public_url.rstrip("/")
    is_public = urlsplit(asked).netloc == urlsplit(public_url).netloc
    base = asked if is_loopback(asked) and not is_public else public_url
    return document(f"{base}{OWN_PATH}", base)

"""The OAuth client document PostHog fetches (seed, "The OAuth client")."""

from __future__ import annotations

from litestar import get
from litestar.datastructures import CacheControlHeader

from hogsend.posthog.client_document import PATH, ClientDocument
from hogsend.posthog.client_document import client_document as document


@get(PATH, cache_control=CacheControlHeader(max_age=3600, public=True), tags=["OAuth"])
async def client_document() -> ClientDocument:
    """Describe Hogsend to PostHog's OAuth server."""
    return document()

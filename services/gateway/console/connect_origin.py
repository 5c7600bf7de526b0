"""Where the console has to be open, so that PostHog comes back to it (docs/adr/0026)."""

from __future__ import annotations

from urllib.parse import urlsplit

from hogsend.posthog.client_document import console_callback
from hogsend.urls import is_absolute_url, is_loopback


def console_origin(public_url: str, host: str, posthog: str | None) -> str | None:
    """Give the origin; None where PostHog would not come back.

    PostHog fetches the client document from there: over https, from the internet. A PostHog on this
    machine reaches what only this machine reaches.

    Args:
        public_url: `API_PUBLIC_URL`.
        host: `Host` of the request.
        posthog: PostHog's app host, as far as it is known.
    """
    here = f"http://{host}"
    if posthog is not None and is_loopback(posthog) and is_absolute_url(here) and is_loopback(here):
        return here if console_callback(here) else None
    parts = urlsplit(public_url)
    if parts.scheme != "https" or is_loopback(public_url) or console_callback(public_url) is None:
        return None
    # Browsers leave the usual port out.
    return f"https://{parts.netloc.removesuffix(':443')}"


def why_none(public_url: str) -> str:
    """Say why there is no such origin."""
    return (
        f"API_PUBLIC_URL is {public_url}. PostHog asks there who is connecting, over https and "
        "from the internet, and comes back there: it has to be the https address of this server, "
        "without a path."
    )

"""Finds the origin at which the console must be open to connect PostHog (docs/adr/0026)."""

from __future__ import annotations

from urllib.parse import urlsplit

from hogsend.posthog.client_document import console_callback
from hogsend.urls import is_absolute_url, is_loopback


def console_origin(public_url: str, host: str, posthog: str | None) -> str | None:
    """Return the origin, or None if PostHog would not redirect to this console.

    PostHog fetches the OAuth client document from this origin, so it must be reachable from the
    internet over https. A PostHog on this machine can also use an origin on loopback.

    Args:
        public_url: the setting `API_PUBLIC_URL`.
        host: the request's header `Host`.
        posthog: PostHog's app host, if known.
    """
    here = f"http://{host}"
    if posthog is not None and is_loopback(posthog) and is_absolute_url(here) and is_loopback(here):
        return here if console_callback(here) else None
    parts = urlsplit(public_url)
    if parts.scheme != "https" or is_loopback(public_url) or console_callback(public_url) is None:
        return None
    # Browsers omit the default port from an origin.
    return f"https://{parts.netloc.removesuffix(':443')}"


def why_no_origin(public_url: str) -> str:
    """Return the explanation of why there is no such origin."""
    return (
        f"API_PUBLIC_URL is {public_url}. PostHog fetches the description of this client from "
        "there, over https and from the internet, and redirects the browser to it: it has to be "
        "the https address of this server, without a path."
    )

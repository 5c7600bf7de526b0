"""The OAuth client metadata document (CIMD), which PostHog fetches when a consent page is opened.

Source: spec 3.1.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from hogsend.posthog.scopes import SCOPES

PATH = "/.well-known/hogsend-posthog-client.json"
CLIENT_URI = "https://hogsend.com"
CLIENT_ID = f"{CLIENT_URI}{PATH}"
OWN_PATH = "/.well-known/oauth-client.json"
"""Path of the gateway's own document, for instances that do not use the one on hogsend.com."""
CALLBACK_PORTS = (8423, 8424, 8425)
LOOPBACK_CALLBACKS = tuple(f"http://127.0.0.1:{port}/callback" for port in CALLBACK_PORTS)
CONSOLE_CALLBACK = "/console/connect/callback"
"""Path of the console to which PostHog redirects the browser after consent."""


_PLAIN_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class ClientDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of a public client, which uses PKCE and no secret. Fields are OAuth's (RFC 7591)."""

    client_id: str
    client_name: str = "Hogsend"
    client_uri: str = CLIENT_URI
    redirect_uris: tuple[str, ...] = LOOPBACK_CALLBACKS
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    response_types: tuple[str, ...] = ("code",)
    token_endpoint_auth_method: str = "none"  # noqa: S105
    scope: str = " ".join(SCOPES)


def client_document(
    client_id: str = CLIENT_ID, client_uri: str = CLIENT_URI, *callbacks: str
) -> ClientDocument:
    """Build the document of a client.

    Args:
        client_id: URL of the document.
        client_uri: URL of the client's home page.
        callbacks: redirect URIs besides those of the command line's loopback servers.
    """
    return ClientDocument(
        client_id=client_id,
        client_uri=client_uri,
        redirect_uris=(*LOOPBACK_CALLBACKS, *callbacks),
    )


def console_callback(base: str) -> str | None:
    """Redirect URI of a console at the base URL `base`; None if PostHog would refuse it.

    PostHog accepts https, and http on this machine only (`OAuthApplication.clean` in its
    posthog/models/oauth.py). It refuses a document with any other redirect URI as a whole. A base
    URL with a path is not supported.
    """
    parts = urlsplit(base)
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        return None
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _PLAIN_HOSTS):
        return f"{base.rstrip('/')}{CONSOLE_CALLBACK}"
    return None

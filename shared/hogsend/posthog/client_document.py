"""The OAuth client metadata document (CIMD) PostHog fetches at authorize time.

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
"""Where a gateway serves its own document, for instances that do not use hogsend.com's."""
CALLBACK_PORTS = (8423, 8424, 8425)
LOOPBACK_CALLBACKS = tuple(f"http://127.0.0.1:{port}/callback" for port in CALLBACK_PORTS)
CONSOLE_CALLBACK = "/console/connect/callback"
"""Where the console of a gateway waits for PostHog's answer."""


_PLAIN_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class ClientDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A public client: PKCE, no secret. Field names are OAuth's (RFC 7591)."""

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
    """Return a client's document.

    Args:
        client_id: the URL the document is served at.
        client_uri: address of the client itself.
        callbacks: where browsers may come back to, besides the command line's loopback servers.
    """
    return ClientDocument(
        client_id=client_id,
        client_uri=client_uri,
        redirect_uris=(*LOOPBACK_CALLBACKS, *callbacks),
    )


def console_callback(base: str) -> str | None:
    """Where PostHog may send a browser back to a console at `base`; None when it may not.

    PostHog takes https, and http on this machine only (`OAuthApplication.clean` in its
    posthog/models/oauth.py): a document that lists anything else is refused as a whole. The
    console's pages are at the root of their host.
    """
    parts = urlsplit(base)
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        return None
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _PLAIN_HOSTS):
        return f"{base.rstrip('/')}{CONSOLE_CALLBACK}"
    return None

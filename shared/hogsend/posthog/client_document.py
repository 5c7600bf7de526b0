"""The OAuth client metadata document (CIMD) PostHog fetches at authorize time.

Source: spec 3.1.
"""

from __future__ import annotations

import msgspec

from hogsend.posthog.scopes import SCOPES

PATH = "/.well-known/hogsend-posthog-client.json"
CLIENT_URI = "https://hogsend.com"
CLIENT_ID = f"{CLIENT_URI}{PATH}"
OWN_PATH = "/.well-known/oauth-client.json"
"""Where a gateway serves its own document, for instances that do not use hogsend.com's."""
CALLBACK_PORTS = (8423, 8424, 8425)


class ClientDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A public client: PKCE, no secret. Field names are OAuth's (RFC 7591)."""

    client_id: str
    client_name: str = "Hogsend"
    client_uri: str = CLIENT_URI
    redirect_uris: tuple[str, ...] = tuple(
        f"http://127.0.0.1:{port}/callback" for port in CALLBACK_PORTS
    )
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    response_types: tuple[str, ...] = ("code",)
    token_endpoint_auth_method: str = "none"  # noqa: S105
    scope: str = " ".join(SCOPES)


def client_document(client_id: str = CLIENT_ID, client_uri: str = CLIENT_URI) -> ClientDocument:
    """Return the document for a `client_id`, which must be the URL the document is served at."""
    return ClientDocument(client_id=client_id, client_uri=client_uri)

"""The discovery document (RFC 8414; posthog/api/oauth/metadata.py)."""

from __future__ import annotations

import msgspec

from sandbox.oauth.scopes import SUPPORTED


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of the authorization server, with the endpoints that the sandbox has.

    PostHog also has registration and JWKS.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    revocation_endpoint: str
    introspection_endpoint: str
    scopes_supported: tuple[str, ...] = SUPPORTED
    response_types_supported: tuple[str, ...] = ("code",)
    response_modes_supported: tuple[str, ...] = ("query",)
    grant_types_supported: tuple[str, ...] = ("authorization_code", "refresh_token")
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("none",)
    code_challenge_methods_supported: tuple[str, ...] = ("S256",)
    service_documentation: str = "https://posthog.com/docs/api"
    client_id_metadata_document_supported: bool = True


def server_metadata(base_url: str) -> ServerMetadata:
    """Build the metadata for `base_url`, which has no trailing slash."""
    return ServerMetadata(
        issuer=base_url,
        authorization_endpoint=f"{base_url}/oauth/authorize/",
        token_endpoint=f"{base_url}/oauth/token/",
        userinfo_endpoint=f"{base_url}/oauth/userinfo/",
        revocation_endpoint=f"{base_url}/oauth/revoke/",
        introspection_endpoint=f"{base_url}/oauth/introspect/",
    )


class ResourceMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of the API (RFC 9728)."""

    resource: str
    authorization_servers: tuple[str, ...]
    scopes_supported: tuple[str, ...] = SUPPORTED
    bearer_methods_supported: tuple[str, ...] = ("header",)


def resource_metadata(base_url: str) -> ResourceMetadata:
    """Build the metadata for `base_url`, which has no trailing slash."""
    return ResourceMetadata(resource=base_url, authorization_servers=(base_url,))

"""The discovery documents (RFC 8414, OpenID Connect Discovery, RFC 9728; PostHog's metadata.py).

They list the endpoints of the sandbox. PostHog has client registration as well.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from sandbox.oauth.claims import CLAIMS
from sandbox.oauth.scopes import SUPPORTED

DOCUMENTATION = "https://posthog.com/docs/api"


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that both documents about the server have."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    revocation_endpoint: str
    introspection_endpoint: str
    jwks_uri: str
    scopes_supported: tuple[str, ...] = SUPPORTED
    response_types_supported: tuple[str, ...] = ("code",)
    response_modes_supported: tuple[str, ...] = ("query",)
    grant_types_supported: tuple[str, ...] = ("authorization_code", "refresh_token")
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("none",)
    code_challenge_methods_supported: tuple[str, ...] = ("S256",)
    service_documentation: str = DOCUMENTATION


Document = TypeVar("Document", bound=Metadata)


class ServerMetadata(Metadata, frozen=True, kw_only=True):
    """Metadata of the authorization server (RFC 8414)."""

    client_id_metadata_document_supported: bool = True


class OpenIdMetadata(Metadata, frozen=True, kw_only=True):
    """Metadata of the server as an OpenID provider (OpenID Connect Discovery 1.0)."""

    subject_types_supported: tuple[str, ...] = ("public",)
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    claims_supported: tuple[str, ...] = CLAIMS


def server_metadata(base_url: str) -> ServerMetadata:
    """Build the metadata for `base_url`, which has no trailing slash."""
    return _metadata(ServerMetadata, base_url)


def openid_metadata(base_url: str) -> OpenIdMetadata:
    """Build the metadata for `base_url`, which has no trailing slash."""
    return _metadata(OpenIdMetadata, base_url)


def _metadata(kind: type[Document], base_url: str) -> Document:
    return kind(
        issuer=base_url,
        authorization_endpoint=f"{base_url}/oauth/authorize/",
        token_endpoint=f"{base_url}/oauth/token/",
        userinfo_endpoint=f"{base_url}/oauth/userinfo/",
        revocation_endpoint=f"{base_url}/oauth/revoke/",
        introspection_endpoint=f"{base_url}/oauth/introspect/",
        jwks_uri=f"{base_url}/.well-known/jwks.json",
    )


class ResourceMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of the API (RFC 9728)."""

    resource: str
    authorization_servers: tuple[str, ...]
    scopes_supported: tuple[str, ...] = SUPPORTED
    bearer_methods_supported: tuple[str, ...] = ("header",)
    resource_documentation: str = DOCUMENTATION


def resource_metadata(base_url: str) -> ResourceMetadata:
    """Build the metadata for `base_url`, which has no trailing slash."""
    return ResourceMetadata(resource=base_url, authorization_servers=(base_url,))

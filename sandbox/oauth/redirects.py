"""Validation of redirect URIs."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

LOOPBACK = ("127.0.0.1", "::1")


def may_be_registered(uri: str) -> bool:
    """Whether a client may register `uri`: https, a private-use scheme, or http on loopback.

    Follows `OAuthApplication.clean` in posthog/models/oauth.py.
    """
    parts = _split(uri)
    if parts is None or not parts.scheme or "#" in uri or "@" in parts.netloc:
        return False
    if parts.scheme == "http":
        return parts.hostname in (*LOOPBACK, "localhost")
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme not in ("javascript", "data", "file", "blob", "vbscript")


def is_allowed(uri: str, registered: tuple[str, ...]) -> bool:
    """Whether `uri` is registered. On loopback the port may differ (RFC 8252 7.3).

    Follows `check_redirect_to_uri_allowed` of django-oauth-toolkit, with PostHog's exception for
    `localhost` registered without a port (`validate_redirect_uri` in posthog/api/oauth/views.py).
    """
    return may_be_registered(uri) and any(_matches(uri, candidate) for candidate in registered)


def _matches(uri: str, registered: str) -> bool:
    actual, allowed = _split(uri), _split(registered)
    if actual is None or allowed is None:
        return False
    if (actual.scheme, actual.hostname, actual.path) != (
        allowed.scheme,
        allowed.hostname,
        allowed.path,
    ):
        return False
    any_port = allowed.scheme == "http" and (
        allowed.hostname in LOOPBACK or (allowed.hostname == "localhost" and allowed.port is None)
    )
    if not any_port and actual.port != allowed.port:
        return False
    return allowed.query == actual.query and ("?" in uri) == ("?" in registered)


def with_parameters(uri: str, parameters: dict[str, str]) -> str:
    """Add parameters to the query of `uri`."""
    parts = urlsplit(uri)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *parameters.items()])
    return urlunsplit(parts._replace(query=query))


def origin(uri: str) -> str:
    """Return scheme and authority, or only a private-use scheme."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def _split(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return None
    return parts

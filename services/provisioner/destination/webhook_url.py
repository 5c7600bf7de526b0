"""The URL that PostHog delivers to, and comparisons of destinations' URLs (contract 2.2, 2.3)."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from hogsend.contract.webhooks import WEBHOOK_PATH

PLACEHOLDER_HOST = "CHANGEME.yourdomain.com"
PLACEHOLDER_URL = f"https://{PLACEHOLDER_HOST}{WEBHOOK_PATH}"


def webhook_url(public_url: str) -> str:
    """Return the URL that PostHog delivers to; a path prefix of `public_url` is kept."""
    return f"{public_url.rstrip('/')}{WEBHOOK_PATH}"


def is_webhook_url(url: Any) -> bool:
    """Whether a destination's URL ends in the webhook path, at any Hogsend instance."""
    parts = _split(url)
    return parts is not None and parts.path.endswith(WEBHOOK_PATH)


def is_placeholder(url: Any) -> bool:
    """Whether a URL still names the placeholder host instead of a real one."""
    parts = _split(url)
    return parts is not None and parts.hostname == PLACEHOLDER_HOST.lower()


def same_instance(url: Any, other: str) -> bool:
    """Whether two URLs have the same host, port and path; the scheme is not compared."""
    first, second = _split(url), _split(other)
    if first is None or second is None:
        return False
    try:
        return (first.hostname, first.port, first.path) == (
            second.hostname,
            second.port,
            second.path,
        )
    except ValueError:
        return False


def instance_url(url: str) -> str | None:
    """Return the base URL of a destination's instance, without credentials; None if invalid."""
    parts = _split(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    path = parts.path.removesuffix(WEBHOOK_PATH)
    return urlunsplit((parts.scheme, _host(parts), path, "", ""))


def redacted_url(url: Any) -> str:
    """Return `url` without credentials and query, which may contain a secret."""
    parts = _split(url)
    return "" if parts is None else urlunsplit((parts.scheme, _host(parts), parts.path, "", ""))


def _split(url: Any) -> SplitResult | None:
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return None
    return parts if parts.scheme and parts.netloc else None


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]

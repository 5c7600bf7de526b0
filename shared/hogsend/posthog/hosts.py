"""PostHog's two hosts, each derived from the other (contract 1.1)."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

US_INGESTION_HOST = "https://us.i.posthog.com"

_INGESTION = re.compile(r"^(https?://[a-z0-9-]+)\.i(\.posthog\.com)(?=[:/?#]|$)", re.IGNORECASE)
_APP = re.compile(r"^(https?://(?:us|eu))(\.posthog\.com)(?=[:/?#]|$)", re.IGNORECASE)
_EARLIER = re.compile(r"^(https?://)app(?=\.posthog\.com(?:[:/?#]|$))", re.IGNORECASE)
"""PostHog Cloud before there was a second region: the US, as PostHog's libraries take it, too."""


def is_posthog_cloud(url: str) -> bool:
    """Whether a URL's host is one of PostHog Cloud's; the URL must be one."""
    host = urlsplit(url).hostname or ""
    return host.removesuffix(".").endswith(".posthog.com")


def private_host(ingestion_host: str) -> str:
    """Derive the app host from an ingestion host: PostHog Cloud's `.i` label is removed.

    A host other than `<label>.i.posthog.com` and `app.posthog.com` is returned unchanged but for
    trailing slashes.
    """
    return _INGESTION.sub(r"\1\2", _EARLIER.sub(r"\1us", ingestion_host)).rstrip("/")


def ingestion_host(private: str) -> str:
    """Derive the ingestion host from an app host: PostHog Cloud's `.i` label is added.

    A host other than `us`, `eu` and `app` of `posthog.com` is returned unchanged but for trailing
    slashes.
    """
    return _APP.sub(r"\1.i\2", _EARLIER.sub(r"\1us", private)).rstrip("/")


def same_host(one: str, other: str) -> bool:
    """Whether two URLs of hosts are one PostHog, however they are written."""
    try:
        return _parts(one) == _parts(other)
    except ValueError:
        return one == other


def _parts(url: str) -> tuple[str, str | None, int | None, str]:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")

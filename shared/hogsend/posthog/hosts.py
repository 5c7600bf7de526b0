"""PostHog's hosts for the app and for ingestion, each derived from the other (contract 1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from hogsend.urls import Origin, origin

REGIONS: Mapping[str, str] = {"eu": "https://eu.posthog.com", "us": "https://us.posthog.com"}
"""App hosts of PostHog Cloud."""
US_INGESTION_HOST = "https://us.i.posthog.com"

_INGESTION = re.compile(r"^(https?://[a-z0-9-]+)\.i(\.posthog\.com)(?=[:/?#]|$)", re.IGNORECASE)
_APP = re.compile(r"^(https?://(?:us|eu))(\.posthog\.com)(?=[:/?#]|$)", re.IGNORECASE)
_EARLIER = re.compile(r"^(https?://)app(?=\.posthog\.com(?:[:/?#]|$))", re.IGNORECASE)
"""PostHog Cloud's host before it had regions. It means the US, as in PostHog's libraries."""

_TOKEN_PATH = re.compile(r"/oauth/token/?$")

_PAGE_PATH = re.compile(r"/project/|/(?:batch|capture|api|e|flags|decide|array\.js)/?$")
"""Paths of pages and APIs in URLs that people copy from a browser or an example."""


def check_host(url: str) -> None:
    """Check that a URL is the base URL of a PostHog, not the URL of one of its pages.

    Raises:
        ValueError: it is not. The message says what to write, and does not repeat the URL.
    """
    parts = urlsplit(url)
    if (parts.hostname or "").removesuffix(".").endswith(".posthog.com"):
        if parts.scheme != "https":
            raise ValueError("PostHog Cloud must be called by https, as it is sent keys")
        if parts.path.strip("/"):
            raise ValueError("PostHog Cloud is at no path; remove everything after the host")
    if _PAGE_PATH.search(parts.path):
        raise ValueError("it is the address of one of PostHog's pages; remove the page's path")


def private_host(ingestion_host: str) -> str:
    """Derive the app host from an ingestion host: PostHog Cloud's `.i` label is removed.

    A host other than `<label>.i.posthog.com` and `app.posthog.com` is returned unchanged, except
    that trailing slashes are removed.
    """
    return _INGESTION.sub(r"\1\2", _EARLIER.sub(r"\1us", ingestion_host)).rstrip("/")


def ingestion_host(private: str) -> str:
    """Derive the ingestion host from an app host: PostHog Cloud's `.i` label is added.

    A host other than `us`, `eu` and `app` of `posthog.com` is returned unchanged, except that
    trailing slashes are removed.
    """
    return _APP.sub(r"\1.i\2", _EARLIER.sub(r"\1us", private)).rstrip("/")


def host_of_token_endpoint(token_endpoint: str) -> str:
    """Derive PostHog's base URL from its token endpoint, with the path prefix of a proxy if any.

    If the path is not that of PostHog's token endpoint, only the origin is returned.
    """
    parts = urlsplit(token_endpoint)
    prefix = _TOKEN_PATH.sub("", parts.path) if _TOKEN_PATH.search(parts.path) else ""
    return f"{parts.scheme}://{parts.netloc}{prefix}"


def same_host(first: str, second: str) -> bool:
    """Whether two base URLs are of the same PostHog, compared by origin and path."""
    try:
        return _origin_and_path(first) == _origin_and_path(second)
    except ValueError:
        return first == second


def _origin_and_path(url: str) -> tuple[Origin, str]:
    return origin(url), urlsplit(url).path.rstrip("/")

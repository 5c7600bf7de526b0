"""PostHog's two hosts, each derived from the other (contract 1.1)."""

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
"""PostHog Cloud before there was a second region: the US, as PostHog's libraries take it, too."""

_TOKEN_PATH = re.compile(r"/oauth/token/?$")

_OF_A_PAGE = re.compile(r"/project/|/(?:batch|capture|api|e|flags|decide|array\.js)/?$")
"""Paths of PostHog that people copy from a browser or an example, in place of its host's."""


def check_host(url: str) -> None:
    """Check that a URL is the host of a PostHog, and not of one of its pages.

    Raises:
        ValueError: it is not; the message says what to write, and repeats nothing of it.
    """
    parts = urlsplit(url)
    if (parts.hostname or "").removesuffix(".").endswith(".posthog.com"):
        if parts.scheme != "https":
            raise ValueError("PostHog Cloud must be called by https, as it is sent keys")
        if parts.path.strip("/"):
            raise ValueError("PostHog Cloud is at no path; remove everything after the host")
    if _OF_A_PAGE.search(parts.path):
        raise ValueError("it is the address of one of PostHog's pages; remove the page's path")


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


def host_of_token_endpoint(token_endpoint: str) -> str:
    """Derive a PostHog's host from where it gives tokens, a path that it is below included.

    Of another path than PostHog's only the origin is taken.
    """
    parts = urlsplit(token_endpoint)
    below = _TOKEN_PATH.sub("", parts.path) if _TOKEN_PATH.search(parts.path) else ""
    return f"{parts.scheme}://{parts.netloc}{below}"


def same_host(one: str, other: str) -> bool:
    """Whether two URLs of hosts are one PostHog, however they are written."""
    try:
        return _place(one) == _place(other)
    except ValueError:
        return one == other


def _place(url: str) -> tuple[Origin, str]:
    return origin(url), urlsplit(url).path.rstrip("/")

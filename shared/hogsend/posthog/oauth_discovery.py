"""Evaluates PostHog's response to OAuth discovery (RFC 8414; contract 3.2 and C9).

The request is sent by the command line on the operator's machine, or by the service `credentials`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec

from hogsend.contract.json_text import NOT_JSON
from hogsend.urls import is_absolute_url, is_loopback, origin

PATH = "/.well-known/oauth-authorization-server"
NO_SUCH_DOCUMENT = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
SUCCESS = range(200, 300)
HTML = frozenset({"text/html", "application/xhtml+xml"})
_LOGIN = re.compile(r"(?i)(^|/)(log-?in|sign-?in|sso|saml|auth|preflight|setup)(/|$)")
"""Matches the path of a login page."""


class NoOAuthServer(Exception):
    """The host has no OAuth server. The message states the response."""


class NoClientDocuments(Exception):
    """The OAuth server does not support client documents (CIMD). The message names the server."""


class DiscoveryFailed(Exception):
    """Discovery failed, although there may be an OAuth server. The message states why."""


class Endpoints(msgspec.Struct, frozen=True):
    """The discovery document, as far as it is used, with OAuth's field names."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: Any = None
    client_id_metadata_document_supported: Any = None

    @property
    def accepts_client_documents(self) -> bool:
        """Whether the server probably accepts the URL of a client document as client id (CIMD).

        PostHog's document has `registration_endpoint` since PostHog/posthog#44485, and states its
        support of CIMD since PostHog/posthog#52324. Versions in between do not support it. A
        document with neither field is not from one of these versions.
        """
        if self.client_id_metadata_document_supported is None:
            return self.registration_endpoint is None
        return self.client_id_metadata_document_supported is True


class DiscoveryResponse(msgspec.Struct, frozen=True):
    """The response to a discovery request to `url`."""

    url: str
    status: int
    content: bytes
    content_type: str = ""
    location: str = ""
    """The header `Location`, which may be relative."""

    @property
    def is_redirect(self) -> bool:
        """Whether the response is a redirect with a location."""
        return self.status in REDIRECTS and bool(self.location)

    @property
    def target(self) -> str:
        """Target of a redirect as an absolute URL; empty if the location is no URL."""
        try:
            return urljoin(self.url, self.location.strip())
        except ValueError:
            return ""

    @property
    def with_slash(self) -> str | None:
        """Target of a redirect that only adds a slash, which may be followed; else None."""
        slashed = f"{self.url}/"
        return slashed if self.is_redirect and self.target == slashed else None


def read_endpoints(response: DiscoveryResponse) -> Endpoints:
    """Read the endpoints from a response.

    Raises:
        NoOAuthServer: the host has no discovery document.
        DiscoveryFailed: the response cannot be used.
    """
    url = response.url
    if response.status in NO_SUCH_DOCUMENT:
        raise NoOAuthServer(f"{url} answered {response.status}")
    if response.is_redirect:
        if _is_page(url, response.target):
            # PostHog redirects every unknown path to its login page.
            raise NoOAuthServer(f"{url} leads to {response.target.partition('?')[0]}")
        raise DiscoveryFailed(
            f"{url} answered {response.status} and redirects to "
            f"{response.target or 'nothing'}; give PostHog's app host itself"
        )
    if response.status not in SUCCESS:
        raise DiscoveryFailed(f"{url} answered {response.status}")
    if _is_html(response):
        raise NoOAuthServer(f"{url} answered with an HTML page")
    try:
        return msgspec.json.decode(response.content, type=Endpoints)
    except NOT_JSON as error:
        raise DiscoveryFailed(f"{url} answered with a malformed document ({error})") from None


def check_client_documents(endpoints: Endpoints) -> None:
    """Check that the server accepts client documents (CIMD).

    Raises:
        NoClientDocuments: it does not. Its consent page would show an error in the browser only.
    """
    if not endpoints.accepts_client_documents:
        raise NoClientDocuments(
            f"the OAuth server of {endpoints.issuer} takes no client documents (CIMD), as PostHog "
            "did before 2026-03-25"
        )


def check_endpoint(name: str, url: str, is_named: Callable[[str], bool]) -> None:
    """Check that an endpoint is safe: code, verifier and refresh token are sent to it.

    Args:
        name: name of the endpoint's field, for the message.
        url: URL of the endpoint.
        is_named: whether the operator configured the host of a URL, so that it may be without TLS.

    Raises:
        DiscoveryFailed: the endpoint is not safe.
    """
    scheme = url.partition(":")[0].lower()
    if not is_absolute_url(url) or not (
        scheme == "https" or (scheme == "http" and (is_loopback(url) or is_named(url)))
    ):
        raise DiscoveryFailed(
            f"its {name} must be https, or http on this machine, at the host of POSTHOG_HOST or "
            f"POSTHOG_PRIVATE_HOST, or at one in OUTBOUND_ALLOW: {url}"
        )
    if urlsplit(url).username is not None:
        raise DiscoveryFailed(f"its {name} must not carry a user or password")


def same_origin(first: str, second: str) -> bool:
    """Whether two URLs have the same scheme, host and port; False for text that is not a URL."""
    try:
        return origin(first) == origin(second)
    except ValueError:
        return False


def _is_page(url: str, target: str) -> bool:
    """Whether a redirect leads to a page for people, not to the document at another URL."""
    try:
        source, destination = urlsplit(url), urlsplit(target)
        same_host = source.hostname == destination.hostname
    except ValueError:
        return False
    if destination.path.rstrip("/").endswith(PATH):
        return False
    return same_host or _LOGIN.search(destination.path) is not None


def _is_html(response: DiscoveryResponse) -> bool:
    media_type = response.content_type.partition(";")[0].strip().lower()
    start = response.content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return media_type in HTML or start.startswith(b"<")

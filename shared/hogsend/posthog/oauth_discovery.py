"""Reading a PostHog's answer to OAuth discovery (RFC 8414; contract 3.2 and C9).

What asks for it is elsewhere: the command line on the operator's machine, or the credentials
service.
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
"""A path that asks a person to log in."""


class NoOAuthServer(Exception):
    """There is no OAuth server; the message says what it answered instead."""


class NoClientDocuments(Exception):
    """There is one that knows no client by the address of its document (CIMD); says which."""


class DiscoveryFailed(Exception):
    """There may be one, and this is not how it is found; the message says why."""


class Endpoints(msgspec.Struct, frozen=True):
    """The fields of the discovery document that are needed, under OAuth's names."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: Any = None
    client_id_metadata_document_supported: Any = None

    @property
    def takes_client_documents(self) -> bool:
        """Whether a client may be named by the address of its document, as far as it is said.

        PostHog says how clients register since PostHog/posthog#44485, and that it takes documents
        since PostHog/posthog#52324. Who says neither is not one of the versions in between.
        """
        if self.client_id_metadata_document_supported is None:
            return self.registration_endpoint is None
        return self.client_id_metadata_document_supported is True


class Discovered(msgspec.Struct, frozen=True):
    """What was answered at `url`."""

    url: str
    status: int
    content: bytes
    content_type: str = ""
    location: str = ""
    """Where it redirects to, as the header says it."""

    @property
    def is_redirect(self) -> bool:
        """Whether it names another place."""
        return self.status in REDIRECTS and bool(self.location)

    @property
    def target(self) -> str:
        """Where a redirect leads, as an absolute URL; empty when it names nothing that is one."""
        try:
            return urljoin(self.url, self.location.strip())
        except ValueError:
            return ""

    @property
    def with_slash(self) -> str | None:
        """The same path with a slash, where the answer leads there: the one redirect to follow."""
        slashed = f"{self.url}/"
        return slashed if self.is_redirect and self.target == slashed else None


def read_endpoints(answer: Discovered) -> Endpoints:
    """Read the endpoints from an answer.

    Raises:
        NoOAuthServer: there is no such document.
        DiscoveryFailed: the answer is none that can be used.
    """
    url = answer.url
    if answer.status in NO_SUCH_DOCUMENT:
        raise NoOAuthServer(f"{url} answered {answer.status}")
    if answer.is_redirect:
        if _is_page(url, answer.target):
            # PostHog sends every path that it does not know to its login page.
            raise NoOAuthServer(f"{url} leads to {answer.target.partition('?')[0]}")
        raise DiscoveryFailed(
            f"{url} answered {answer.status} and redirects to "
            f"{answer.target or 'nothing'}; give PostHog's app host itself"
        )
    if answer.status not in SUCCESS:
        raise DiscoveryFailed(f"{url} answered {answer.status}")
    if _is_html(answer):
        raise NoOAuthServer(f"{url} answered with an HTML page")
    try:
        return msgspec.json.decode(answer.content, type=Endpoints)
    except NOT_JSON as error:
        raise DiscoveryFailed(f"{url} answered with a malformed document ({error})") from None


def check_client_documents(endpoints: Endpoints) -> None:
    """Require that the server takes a client document such as ours.

    Raises:
        NoClientDocuments: it does not, so its consent page would be an error, which is not seen
        here.
    """
    if not endpoints.takes_client_documents:
        raise NoClientDocuments(
            f"the OAuth server of {endpoints.issuer} takes no client documents (CIMD), as PostHog "
            "did before 2026-03-25"
        )


def check_endpoint(name: str, url: str, is_named: Callable[[str], bool]) -> None:
    """Require that an endpoint is safe: code, verifier and refresh token are sent there.

    Args:
        name: the field it comes from.
        url: the endpoint.
        is_named: whether the operator named the host of a URL, so that it may be without TLS.

    Raises:
        DiscoveryFailed: it is not.
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


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port; False for text that is not a URL."""
    try:
        return origin(one) == origin(other)
    except ValueError:
        return False


def _is_page(url: str, target: str) -> bool:
    """Whether a redirect leads to a page for people, not to where the document is."""
    try:
        here, there = urlsplit(url), urlsplit(target)
        same_host = here.hostname == there.hostname
    except ValueError:
        return False
    if there.path.rstrip("/").endswith(PATH):
        return False
    return same_host or _LOGIN.search(there.path) is not None


def _is_html(answer: Discovered) -> bool:
    kind = answer.content_type.partition(";")[0].strip().lower()
    start = answer.content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return kind in HTML or start.startswith(b"<")

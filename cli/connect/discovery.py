"""Discovery of PostHog's OAuth endpoints (RFC 8414; contract 3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec

from cli.connect.results import ConnectError, Verdict
from cli.no_answer import why_no_answer
from hogsend.service.ssrf import EgressPolicy
from hogsend.urls import is_absolute_url, is_loopback

PATH = "/.well-known/oauth-authorization-server"
DISCOVERY_SECONDS = 10.0
NO_SUCH_DOCUMENT = (404, 410)
HTML = ("text/html", "application/xhtml+xml")
_LOGIN = re.compile(r"(?i)(^|/)(log-?in|sign-?in|sso|saml|auth|preflight|setup)(/|$)")
"""A path that asks somebody to log in."""

PERSONAL_KEY_STEPS = """\
This PostHog has no OAuth server; a personal API key can be used instead:
1. In PostHog, under Settings, User, Personal API keys: create a key for your project alone with \
the scopes person:read and project:read. Add person:write, and hog_function:write if \
`--provision-only` is to create the webhook destination. Do not choose "All access".
2. Set POSTHOG_PERSONAL_API_KEY to that key on your Hogsend server, for every one of its services.
3. Restart or redeploy it. Person reads use the key from then on, and so does \
`hogsend connect posthog --provision-only`."""


class Endpoints(msgspec.Struct, frozen=True):
    """The fields of the discovery document that are needed, under OAuth's names."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str


def discover(private_host: str, allow: Iterable[str] = ()) -> Endpoints:
    """Fetch the discovery document. Follows a redirect only to the same path with a slash.

    Args:
        private_host: PostHog's app host, which the operator named.
        allow: further hosts that may be called by plain http, as `OUTBOUND_ALLOW` lists them.

    Raises:
        ConnectError: `oauth_unsupported` if there is none, else `discovery_failed`.
    """
    url = f"{private_host}{PATH}"
    answer = _get(url)
    slashed = f"{url}/"
    if answer.is_redirect and _target(url, answer) == slashed:
        url, answer = slashed, _get(slashed)
    if answer.status_code in NO_SUCH_DOCUMENT:
        raise _unsupported(private_host, f"{url} answered {answer.status_code}")
    if answer.is_redirect:
        target = _target(url, answer)
        if _is_page(url, target):
            # PostHog sends every path that it does not know to its login page.
            raise _unsupported(private_host, f"{url} leads to {target.partition('?')[0]}")
        raise _failed(
            f"{url} answered {answer.status_code} and redirects to "
            f"{target or 'nothing'}; give PostHog's app host itself"
        )
    if not answer.is_success:
        raise _failed(f"{url} answered {answer.status_code}")
    if _is_html(answer):
        raise _unsupported(private_host, f"{url} answered with an HTML page")
    try:
        endpoints = msgspec.json.decode(answer.content, type=Endpoints)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _failed(f"{url} answered with a malformed document ({error})") from None
    # A host that is named with https is not to be called without.
    plain = private_host if private_host.lower().startswith("http:") else None
    named = EgressPolicy.of(allow, plain)
    _check("authorization_endpoint", endpoints.authorization_endpoint, named)
    _check("token_endpoint", endpoints.token_endpoint, named)
    return endpoints


def _get(url: str) -> httpx.Response:
    try:
        return httpx.get(
            url,
            headers={"Accept": "application/json"},
            timeout=DISCOVERY_SECONDS,
            follow_redirects=False,
            trust_env=not is_loopback(url),
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _failed(f"no answer from {url} ({why_no_answer(error)})") from None


def _target(url: str, answer: httpx.Response) -> str:
    """Where a redirect leads, as an absolute URL; empty when it names nothing that is one."""
    try:
        return urljoin(url, str(answer.headers.get("location", "")).strip())
    except ValueError:
        return ""


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


def _is_html(answer: httpx.Response) -> bool:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    start = answer.content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return kind in HTML or start.startswith(b"<")


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port; False for text that is not a URL."""
    try:
        return _origin(one) == _origin(other)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _check(name: str, url: str, named: EgressPolicy) -> None:
    # The code, the verifier and later the refresh token are sent to it.
    scheme = url.partition(":")[0].lower()
    if not is_absolute_url(url) or not (
        scheme == "https" or (scheme == "http" and (is_loopback(url) or named.names(url)))
    ):
        raise _failed(
            f"its {name} must be https, or http on this machine, at the host of POSTHOG_HOST or "
            f"POSTHOG_PRIVATE_HOST, or at one in OUTBOUND_ALLOW: {url}"
        )
    if urlsplit(url).username is not None:
        raise _failed(f"its {name} must not carry a user or password")


def _unsupported(private_host: str, what: str) -> ConnectError:
    return ConnectError(
        Verdict.OAUTH_UNSUPPORTED,
        f"{private_host} has no OAuth server ({what})",
        hint=PERSONAL_KEY_STEPS,
    )


def _failed(problem: str) -> ConnectError:
    return ConnectError(
        Verdict.DISCOVERY_FAILED,
        f"OAuth discovery failed: {problem}",
        hint="check POSTHOG_PRIVATE_HOST (or POSTHOG_HOST) on the server, or --posthog-host, and "
        "that this machine reaches it",
    )

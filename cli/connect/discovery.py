"""Discovery of PostHog's OAuth endpoints (RFC 8414; contract 3.2)."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import msgspec

from cli.connect.results import ConnectError, Verdict
from cli.no_answer import why_no_answer
from hogsend.urls import is_absolute_url, is_loopback

PATH = "/.well-known/oauth-authorization-server"
DISCOVERY_SECONDS = 10.0
NO_SUCH_DOCUMENT = (404, 410)

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


def discover(private_host: str) -> Endpoints:
    """Fetch the discovery document. Follows no redirect.

    Raises:
        ConnectError: `oauth_unsupported` if there is none, else `discovery_failed`.
    """
    url = f"{private_host}{PATH}"
    try:
        answer = httpx.get(
            url,
            headers={"Accept": "application/json"},
            timeout=DISCOVERY_SECONDS,
            follow_redirects=False,
            trust_env=not is_loopback(url),
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _failed(f"no answer from {url} ({why_no_answer(error)})") from None
    if answer.status_code in NO_SUCH_DOCUMENT:
        raise ConnectError(
            Verdict.OAUTH_UNSUPPORTED,
            f"{private_host} has no OAuth server ({url} answered {answer.status_code})",
            hint=PERSONAL_KEY_STEPS,
        )
    if answer.is_redirect:
        raise _failed(
            f"{url} answered {answer.status_code} and redirects to "
            f"{answer.headers.get('location', 'nothing')}; give PostHog's app host itself"
        )
    if not answer.is_success:
        raise _failed(f"{url} answered {answer.status_code}")
    try:
        endpoints = msgspec.json.decode(answer.content, type=Endpoints)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _failed(f"{url} answered with a malformed document ({error})") from None
    _check("authorization_endpoint", endpoints.authorization_endpoint)
    _check("token_endpoint", endpoints.token_endpoint)
    return endpoints


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port; False for text that is not a URL."""
    try:
        return _origin(one) == _origin(other)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _check(name: str, url: str) -> None:
    # The code, the verifier and later the refresh token are sent to it.
    scheme = url.partition(":")[0].lower()
    safe = scheme == "https" or (scheme == "http" and is_loopback(url))
    if not (is_absolute_url(url) and safe):
        raise _failed(f"its {name} must be https, or http on this machine: {url}")
    if urlsplit(url).username is not None:
        raise _failed(f"its {name} must not carry a user or password")


def _failed(problem: str) -> ConnectError:
    return ConnectError(
        Verdict.DISCOVERY_FAILED,
        f"OAuth discovery failed: {problem}",
        hint="check POSTHOG_PRIVATE_HOST (or POSTHOG_HOST) on the server, or --posthog-host, and "
        "that this machine reaches it",
    )

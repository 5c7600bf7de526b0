"""Discovery of PostHog's OAuth endpoints (RFC 8414; contract 3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx

from cli.connect.results import ConnectError, Verdict
from cli.http_failure import failure_reason
from hogsend.posthog.oauth_discovery import (
    PATH,
    DiscoveryFailed,
    DiscoveryResponse,
    Endpoints,
    NoClientDocuments,
    NoOAuthServer,
    check_client_documents,
    check_endpoint,
    read_endpoints,
    same_origin,
)
from hogsend.posthog.response_body import ACCEPTED, read_prefix
from hogsend.service.ssrf import EgressPolicy
from hogsend.urls import is_loopback

DISCOVERY_SECONDS = 10.0
MAX_BYTES = 256 * 1024
"""A discovery document is shorter. The response of another kind of server may be endless."""

HINT_FOR_OPTION = "check the PostHog URL that you gave, and that this machine can reach it"
HINT_FOR_SERVER = (
    "check POSTHOG_PRIVATE_HOST (or POSTHOG_HOST) on the server. This machine must reach that "
    "host too. If only the server reaches it, run `hogsend connect posthog` on the server, or set "
    "a personal API key there and run `hogsend connect posthog --provision-only`"
)
PERSONAL_KEY_STEPS = """\
A personal API key can be used instead of OAuth:
1. In PostHog, under Settings, User, Personal API keys: create a key for your project only, with \
the scopes person:read and project:read. Add person:write, and hog_function:write if \
`--provision-only` is to create the webhook destination. Do not choose "All access".
2. Set POSTHOG_PERSONAL_API_KEY to that key for all services of your Hogsend server.
3. Restart or redeploy them. They then use the key for person reads, and \
`hogsend connect posthog --provision-only` uses it too."""
UPGRADE = "Or upgrade PostHog and run this command again."


def discover(
    private_host: str,
    allow: Iterable[str] = (),
    *,
    is_registered: bool = False,
    hint: str = HINT_FOR_OPTION,
) -> Endpoints:
    """Fetch the discovery document. Follows a redirect only to the same path with a slash.

    Args:
        private_host: PostHog's app host, as configured by the operator.
        allow: further hosts that plain http is allowed for, as listed in `OUTBOUND_ALLOW`.
        is_registered: whether `--client-id` was given; PostHog may know such a client already.
        hint: fix for a failed discovery.

    Raises:
        ConnectError: `oauth_unsupported` if PostHog has no OAuth server, or one that does not
            accept client documents; else `discovery_failed`.
    """
    # Plain http is allowed only for a host that the operator configured with http.
    plain = private_host if private_host.lower().startswith("http:") else None
    policy = EgressPolicy.of(allow, plain)
    try:
        document = _get(f"{private_host}{PATH}")
        if document.with_slash is not None:
            document = _get(document.with_slash)
        endpoints = read_endpoints(document)
        _check(endpoints, policy)
        if not is_registered:
            check_client_documents(endpoints)
    except NoClientDocuments as error:
        raise ConnectError(
            Verdict.OAUTH_UNSUPPORTED, str(error), hint=f"{PERSONAL_KEY_STEPS}\n{UPGRADE}"
        ) from None
    except NoOAuthServer as error:
        raise ConnectError(
            Verdict.OAUTH_UNSUPPORTED,
            f"{private_host} has no OAuth server ({error})",
            hint=PERSONAL_KEY_STEPS,
        ) from None
    except DiscoveryFailed as error:
        raise ConnectError(
            Verdict.DISCOVERY_FAILED, f"OAuth discovery failed: {error}", hint=hint
        ) from None
    return endpoints


def _check(endpoints: Endpoints, policy: EgressPolicy) -> None:
    for name in ("authorization_endpoint", "token_endpoint"):
        check_endpoint(name, getattr(endpoints, name), policy.names)
    # Prevents a mix-up attack (RFC 9700, 4.4): a malicious host could name PostHog for consent and
    # itself for the token request, and so receive PostHog's code.
    if not same_origin(endpoints.authorization_endpoint, endpoints.token_endpoint):
        raise DiscoveryFailed(
            f"the authorization endpoint {endpoints.authorization_endpoint} and the token endpoint "
            f"{endpoints.token_endpoint} are on different hosts"
        )


def _get(url: str) -> DiscoveryResponse:
    try:
        return asyncio.run(_fetch(url))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        raise DiscoveryFailed(f"no response from {url} ({failure_reason(error)})") from None


async def _fetch(url: str) -> DiscoveryResponse:
    async with (
        # For the whole response: httpx's own timeout applies to each read.
        asyncio.timeout(DISCOVERY_SECONDS),
        httpx.AsyncClient(timeout=None, trust_env=not is_loopback(url)) as http,  # noqa: S113
        http.stream(
            "GET",
            url,
            headers={"Accept": "application/json", **ACCEPTED},
            follow_redirects=False,
        ) as response,
    ):
        # The limit has space for a whole document, and enough of an HTML page to recognize it.
        content = await read_prefix(response, MAX_BYTES)
    return DiscoveryResponse(
        url=url,
        status=response.status_code,
        content=content,
        content_type=response.headers.get("content-type", ""),
        location=response.headers.get("location", ""),
    )

"""Discovery of PostHog's OAuth endpoints (RFC 8414; contract 3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx

from cli.connect.results import ConnectError, Verdict
from cli.no_answer import why_no_answer
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
"""A longer answer is no discovery document; another server's may have no end."""

NAMED_HERE = "check the address that you gave, and that this machine reaches it"
NAMED_BY_SERVER = (
    "check POSTHOG_PRIVATE_HOST (or POSTHOG_HOST) on the server, which names it. This machine has "
    "to reach it, too: where only the server does, run `hogsend connect posthog` there, or with a "
    "personal API key on the server `hogsend connect posthog --provision-only`"
)
PERSONAL_KEY_STEPS = """\
A personal API key can be used instead of OAuth:
1. In PostHog, under Settings, User, Personal API keys: create a key for your project alone with \
the scopes person:read and project:read. Add person:write, and hog_function:write if \
`--provision-only` is to create the webhook destination. Do not choose "All access".
2. Set POSTHOG_PERSONAL_API_KEY to that key on your Hogsend server, for every one of its services.
3. Restart or redeploy it. Person reads use the key from then on, and so does \
`hogsend connect posthog --provision-only`."""
UPGRADE = "Or upgrade PostHog, and run this again."


def discover(
    private_host: str,
    allow: Iterable[str] = (),
    *,
    is_registered: bool = False,
    hint: str = NAMED_HERE,
) -> Endpoints:
    """Fetch the discovery document. Follows a redirect only to the same path with a slash.

    Args:
        private_host: PostHog's app host, which the operator named.
        allow: further hosts that may be called by plain http, as `OUTBOUND_ALLOW` lists them.
        is_registered: whether the operator named a client, which PostHog may know already.
        hint: what to do where there is no answer, or none that can be used.

    Raises:
        ConnectError: `oauth_unsupported` if there is none, or none that takes the client's
            document; else `discovery_failed`.
    """
    # A host that is named with https is not to be called without.
    plain = private_host if private_host.lower().startswith("http:") else None
    named = EgressPolicy.of(allow, plain)
    try:
        answer = _get(f"{private_host}{PATH}")
        if answer.with_slash is not None:
            answer = _get(answer.with_slash)
        endpoints = read_endpoints(answer)
        _check(endpoints, named)
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


def _check(endpoints: Endpoints, named: EgressPolicy) -> None:
    for name in ("authorization_endpoint", "token_endpoint"):
        check_endpoint(name, getattr(endpoints, name), named.names)
    # Else a host that is not PostHog has consent given at PostHog and the code sent to itself
    # (RFC 9700, 4.4).
    if not same_origin(endpoints.authorization_endpoint, endpoints.token_endpoint):
        raise DiscoveryFailed(
            f"consent is given at {endpoints.authorization_endpoint}, and its code would be sent "
            f"to another host: {endpoints.token_endpoint}"
        )


def _get(url: str) -> DiscoveryResponse:
    try:
        return asyncio.run(_ask(url))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        raise DiscoveryFailed(f"no answer from {url} ({why_no_answer(error)})") from None


async def _ask(url: str) -> DiscoveryResponse:
    async with (
        # Of the whole answer: httpx would wait as long for each of its bytes.
        asyncio.timeout(DISCOVERY_SECONDS),
        httpx.AsyncClient(timeout=None, trust_env=not is_loopback(url)) as http,  # noqa: S113
        http.stream(
            "GET",
            url,
            headers={"Accept": "application/json", **ACCEPTED},
            follow_redirects=False,
        ) as answer,
    ):
        # All of a document, enough of a page to know it for one.
        content = await read_prefix(answer, MAX_BYTES)
    return DiscoveryResponse(
        url=url,
        status=answer.status_code,
        content=content,
        content_type=answer.headers.get("content-type", ""),
        location=answer.headers.get("location", ""),
    )

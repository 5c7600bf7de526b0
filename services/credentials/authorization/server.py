"""Client of PostHog's OAuth server: discovery, and the exchange of a code for tokens."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from urllib.parse import urlencode

import httpx

from hogsend.contract.errors import InvalidRequest
from hogsend.posthog.code_exchange import (
    FORM_HEADERS,
    Tokens,
    UnusableResponse,
    code_form,
    read_tokens,
    refusal_code,
)
from hogsend.posthog.errors import PostHogError
from hogsend.posthog.exchange import exchange
from hogsend.posthog.oauth_discovery import (
    PATH,
    DiscoveryFailed,
    DiscoveryResponse,
    Endpoints,
    check_client_documents,
    check_endpoint,
    read_endpoints,
    same_origin,
)
from hogsend.posthog.response_body import ResponseTooLarge, read
from hogsend.service.ssrf import AddressRefused, EgressPolicy

DISCOVERY_SECONDS = 12.0
EXCHANGE_SECONDS = 20.0
MAX_BYTES = 64 * 1024


class ExchangeRefused(Exception):
    """The code could not be exchanged for tokens. The message has the reason and no secret."""

    def __init__(self, problem: str, code: str | None = None) -> None:
        """Describe the failure.

        Args:
            problem: the reason, as a sentence without a full stop.
            code: OAuth's error code, if the response had a readable one.
        """
        super().__init__(problem)
        self.code = code


class AuthorizationServer:
    """Calls PostHog's OAuth servers, at addresses that the egress policy allows."""

    def __init__(self, http: httpx.AsyncClient, egress: EgressPolicy) -> None:
        """Call with `http`, which follows no redirect and enforces `egress`."""
        self._http = http
        self._egress = egress

    async def discover(self, private_host: str) -> Endpoints:
        """Discover the OAuth endpoints of a PostHog.

        Raises:
            NoOAuthServer: the PostHog has no OAuth server.
            NoClientDocuments: its OAuth server does not support client metadata documents.
            DiscoveryFailed: it cannot be reached, or its endpoints are not safe.
        """
        try:
            async with asyncio.timeout(DISCOVERY_SECONDS):
                response = await self._get(f"{private_host}{PATH}")
                if response.with_slash is not None:
                    response = await self._get(response.with_slash)
        except AddressRefused as error:
            raise DiscoveryFailed(str(error)) from None
        except ResponseTooLarge:
            raise DiscoveryFailed(f"{private_host} answered at too great a length") from None
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            raise DiscoveryFailed(
                f"no answer from {private_host} ({type(error).__name__})"
            ) from None
        endpoints = read_endpoints(response)
        self._check(endpoints)
        check_client_documents(endpoints)
        return endpoints

    def _check(self, endpoints: Endpoints) -> None:
        for name in ("authorization_endpoint", "token_endpoint"):
            url = getattr(endpoints, name)
            check_endpoint(name, url, self._egress.names)
            try:
                self._egress.check(url, name)
            except InvalidRequest as error:
                raise DiscoveryFailed(str(error)) from None
            # All PostHogs share one redirect URI. If a code of one host were sent to the token
            # endpoint of another, that other host could redeem it (mix-up attack, RFC 9700, 4.4).
            if not same_origin(url, endpoints.issuer):
                raise DiscoveryFailed(
                    f"its {name} is {url}, which is not at its issuer {endpoints.issuer}"
                )

    async def tokens(
        self, code: str, verifier: str, *, token_endpoint: str, redirect_uri: str, client_id: str
    ) -> Tokens:
        """Exchange an authorization code for tokens.

        Raises:
            ExchangeRefused: the exchange failed.
        """
        form = code_form(code, verifier, redirect_uri=redirect_uri, client_id=client_id)
        try:
            response = await exchange(
                self._http,
                "POST",
                token_endpoint,
                headers=FORM_HEADERS,
                content=urlencode(form).encode(),
                seconds=EXCHANGE_SECONDS,
                max_bytes=MAX_BYTES,
            )
        except PostHogError as error:
            raise ExchangeRefused(str(error)) from None
        if response.status not in range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES):
            error_code = refusal_code(response.content, code, verifier)
            reason = f" ({error_code})" if error_code else ""
            raise ExchangeRefused(
                f"PostHog answered {response.status}{reason} when it was asked for tokens",
                error_code,
            )
        try:
            return read_tokens(response.content)
        except UnusableResponse as error:
            raise ExchangeRefused(f"PostHog answered {error}") from None

    async def _get(self, url: str) -> DiscoveryResponse:
        headers = {"Accept": "application/json"}
        request = self._http.stream("GET", url, headers=headers, follow_redirects=False)
        async with request as response:
            content = await read(response, MAX_BYTES)
        return DiscoveryResponse(
            url=url,
            status=response.status_code,
            content=content,
            content_type=response.headers.get("content-type", ""),
            location=response.headers.get("location", ""),
        )

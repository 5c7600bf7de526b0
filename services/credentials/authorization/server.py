"""PostHog's OAuth server, as far as connecting needs it: discovery, and the exchange for tokens."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from urllib.parse import urlencode

import httpx

from hogsend.contract.errors import InvalidRequest
from hogsend.posthog.answer_body import AnswerTooLarge, read
from hogsend.posthog.code_exchange import (
    FORM_HEADERS,
    Tokens,
    UnusableAnswer,
    code_form,
    read_tokens,
    refused_with,
)
from hogsend.posthog.errors import PostHogError
from hogsend.posthog.exchange import exchange
from hogsend.posthog.oauth_discovery import (
    PATH,
    Discovered,
    DiscoveryFailed,
    Endpoints,
    check_client_documents,
    check_endpoint,
    read_endpoints,
    same_origin,
)
from hogsend.service.ssrf import AddressRefused, EgressPolicy

DISCOVERY_SECONDS = 12.0
EXCHANGE_SECONDS = 20.0
MAX_BYTES = 64 * 1024


class ExchangeRefused(Exception):
    """The code brought no tokens. The message says why and holds no secret."""

    def __init__(self, problem: str, code: str | None = None) -> None:
        """Say why.

        Args:
            problem: what happened, as a sentence without its end.
            code: OAuth's error code, where there is a readable one.
        """
        super().__init__(problem)
        self.code = code


class AuthorizationServer:
    """Asks PostHog's OAuth servers, at the addresses that may be called."""

    def __init__(self, http: httpx.AsyncClient, egress: EgressPolicy) -> None:
        """Ask with `http`, which follows no redirect and obeys `egress`."""
        self._http = http
        self._egress = egress

    async def discover(self, private_host: str) -> Endpoints:
        """Find the OAuth server of a PostHog.

        Raises:
            NoOAuthServer: it has none.
            NoClientDocuments: it has one that knows no client of ours.
            DiscoveryFailed: it is not reached, or names endpoints that are not safe.
        """
        try:
            async with asyncio.timeout(DISCOVERY_SECONDS):
                answer = await self._get(f"{private_host}{PATH}")
                if answer.with_slash is not None:
                    answer = await self._get(answer.with_slash)
        except AddressRefused as error:
            raise DiscoveryFailed(str(error)) from None
        except AnswerTooLarge:
            raise DiscoveryFailed(f"{private_host} answered at too great a length") from None
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            raise DiscoveryFailed(
                f"no answer from {private_host} ({type(error).__name__})"
            ) from None
        endpoints = read_endpoints(answer)
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
            # One redirect URI serves every PostHog. Where consent is given at one host and its code
            # is sent to another, that other one would get the tokens (RFC 9700, 4.4).
            if not same_origin(url, endpoints.issuer):
                raise DiscoveryFailed(
                    f"its {name} is {url}, which is not at its issuer {endpoints.issuer}"
                )

    async def tokens(
        self, code: str, verifier: str, *, token_endpoint: str, redirect_uri: str, client_id: str
    ) -> Tokens:
        """Exchange a code.

        Raises:
            ExchangeRefused: there are no tokens for it.
        """
        form = code_form(code, verifier, redirect_uri=redirect_uri, client_id=client_id)
        try:
            answer = await exchange(
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
        if answer.status not in range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES):
            refused = refused_with(answer.content, code, verifier)
            reason = f" ({refused})" if refused else ""
            raise ExchangeRefused(
                f"PostHog answered {answer.status}{reason} when it was asked for tokens", refused
            )
        try:
            return read_tokens(answer.content)
        except UnusableAnswer as error:
            raise ExchangeRefused(f"PostHog answered {error}") from None

    async def _get(self, url: str) -> Discovered:
        headers = {"Accept": "application/json"}
        async with self._http.stream("GET", url, headers=headers, follow_redirects=False) as answer:
            content = await read(answer, MAX_BYTES)
        return Discovered(
            url=url,
            status=answer.status_code,
            content=content,
            content_type=answer.headers.get("content-type", ""),
            location=answer.headers.get("location", ""),
        )

"""Acceptance cases 70-76: PKCE, discovery, and the exchange of a code for tokens."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cli.connect import discovery
from cli.connect.discovery import discover
from cli.connect.exchange import exchange
from cli.connect.results import ConnectError
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.oauth_discovery import PATH, DiscoveryResponse
from hogsend.posthog.pkce import PkceSession, authorize_url
from hogsend.posthog.scopes import SCOPES
from tests.cli.fakes import FakePostHog
from tests.cli.recording_server import CannedResponse

REDIRECT = "http://127.0.0.1:8423/callback"


def test_case_70_the_challenge_matches_the_example_of_rfc_7636() -> None:
    session = PkceSession(verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert session.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_case_71_verifiers_are_random() -> None:
    first, second = PkceSession(), PkceSession()
    assert first.verifier != second.verifier
    assert first.state != second.state
    for session in (first, second):
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", session.verifier)
        assert re.fullmatch(r"[A-Za-z0-9_-]{22}", session.state)
        assert session.verifier not in repr(session)
        assert session.state not in repr(session)


def test_case_72_the_authorize_url_has_the_pkce_and_client_parameters() -> None:
    session = PkceSession()
    endpoint = "https://eu.posthog.com/oauth/authorize/?keep=me&state=theirs"
    url = authorize_url(endpoint, client_id=CLIENT_ID, redirect_uri=REDIRECT, session=session)
    assert url.startswith("https://eu.posthog.com/oauth/authorize/?")
    assert " " not in url
    assert parse_qs(urlsplit(url).query) == {
        "keep": ["me"],
        "response_type": ["code"],
        "client_id": [CLIENT_ID],
        "redirect_uri": [REDIRECT],
        "scope": [" ".join(SCOPES)],
        "state": [session.state],
        "code_challenge": [session.challenge],
        "code_challenge_method": ["S256"],
        "required_access_level": ["team"],
    }


def test_case_73_discovery_reads_the_well_known_document(posthog: FakePostHog) -> None:
    document = discover(posthog.url)
    assert document.token_endpoint == f"{posthog.url}/oauth/token/"
    (request,) = posthog.requests
    assert request.line == "GET /.well-known/oauth-authorization-server"
    assert request.headers["accept"] == "application/json"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("status", [404, 410])
def test_case_73_a_missing_document_means_that_oauth_is_unsupported(
    posthog: FakePostHog, status: int
) -> None:
    posthog.discovery = CannedResponse(status, {})
    with pytest.raises(ConnectError) as stopped:
        discover(posthog.url)
    assert stopped.value.verdict == "oauth_unsupported"


@pytest.mark.parametrize(
    "response",
    [
        CannedResponse(302, {}, location=f"/login?next={PATH}"),
        CannedResponse(301, {}, location="/login"),
        CannedResponse(307, {}, location="login/"),
        CannedResponse(303, {}, location="/"),
        CannedResponse(302, {}, location=f"https://127.0.0.1/login?next={PATH}"),
        CannedResponse(302, {}, location="https://sso.example/auth/login?next=x"),
        CannedResponse(200, b"<!doctype html><title>PostHog</title>"),
        CannedResponse(200, b"\xef\xbb\xbf\n <HTML>"),
    ],
)
def test_a_login_page_means_that_oauth_is_unsupported(
    posthog: FakePostHog, response: CannedResponse
) -> None:
    posthog.discovery = response
    with pytest.raises(ConnectError) as stopped:
        discover(posthog.url)
    assert stopped.value.verdict == "oauth_unsupported"
    assert stopped.value.hint is not None
    assert "POSTHOG_PERSONAL_API_KEY" in stopped.value.hint
    assert "next=" not in str(stopped.value)
    assert len(posthog.requests) == 1


DOCUMENTS = "client_id_metadata_document_supported"


@pytest.mark.parametrize(
    ("capabilities", "is_accepted"),
    [
        ({DOCUMENTS: True}, True),
        ({DOCUMENTS: False}, False),
        ({DOCUMENTS: "true"}, False),
        ({DOCUMENTS: 1}, False),
        ({DOCUMENTS: False, "registration_endpoint": None}, False),
        # PostHog between January and March 2026.
        ({DOCUMENTS: None}, False),
        # A document without any field about clients has every field that the contract requires.
        ({DOCUMENTS: None, "registration_endpoint": None}, True),
    ],
)
def test_discovery_fails_when_the_server_does_not_accept_client_documents(
    posthog: FakePostHog, capabilities: dict[str, Any], is_accepted: bool
) -> None:
    document = {**posthog.document, **capabilities}
    document = {name: value for name, value in document.items() if value is not None}
    posthog.discovery = CannedResponse(200, document)
    assert discover(posthog.url, is_registered=True).issuer == posthog.url
    if is_accepted:
        assert discover(posthog.url).issuer == posthog.url
        return
    with pytest.raises(ConnectError, match="client documents") as stopped:
        discover(posthog.url)
    assert stopped.value.verdict == "oauth_unsupported"
    assert stopped.value.hint is not None
    for remedy in ("POSTHOG_PERSONAL_API_KEY", "upgrade PostHog"):
        assert remedy in stopped.value.hint


def test_a_redirect_that_adds_a_slash_is_followed_once(posthog: FakePostHog) -> None:
    posthog.discovery = CannedResponse(301, {}, location=f"{PATH}/")
    with pytest.raises(ConnectError):
        discover(posthog.url)
    assert [request.line for request in posthog.requests] == [f"GET {PATH}", f"GET {PATH}/"]


NESTED = b'{"x":%b}' % (b"[" * 30_000 + b"]" * 30_000)
"""JSON nested deeper than Python's parser allows."""
VALID = b'{"issuer": "x", "authorization_endpoint": "https://x/", "token_endpoint": "https://x/"}'


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (
            CannedResponse(200, {"issuer": "x", "authorization_endpoint": "https://x/"}),
            "malformed document",
        ),
        (CannedResponse(200, b"nonsense"), "malformed document"),
        (CannedResponse(200, ["issuer"]), "malformed document"),
        (CannedResponse(200, b"\xff\xfe"), "malformed document"),
        (CannedResponse(200, NESTED), "malformed document"),
        (CannedResponse(200, b" " * discovery.MAX_BYTES + VALID), "malformed document"),
        (CannedResponse(500, {}), "answered 500"),
        (CannedResponse(403, {}), "answered 403"),
        (
            CannedResponse(302, {}, location="https://elsewhere.example/"),
            "https://elsewhere.example/",
        ),
        (CannedResponse(302, {}, location="https://elsewhere.example" + PATH), "elsewhere.example"),
        (CannedResponse(308, {}, location="https://127.0.0.1" + PATH), "give PostHog's app host"),
    ],
)
def test_case_73_a_malformed_or_redirected_document_fails_discovery(
    posthog: FakePostHog, response: CannedResponse, reason: str
) -> None:
    posthog.discovery = response
    with pytest.raises(ConnectError, match=re.escape(reason)) as stopped:
        discover(posthog.url)
    assert stopped.value.verdict == "discovery_failed"
    assert len(posthog.requests) == 1


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """A server whose response never ends: it keeps sending single bytes."""
    stopped = threading.Event()

    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.sendall(head)
                while not stopped.wait(0.01):
                    self.request.sendall(b" ")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drip) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GZIPPED = gzip.compress(bytes(8 * 1024 * 1024))


@pytest.mark.parametrize("head", [OK + b"X: ", OK + b"\r\n"], ids=["head", "body"])
async def test_a_response_that_never_ends_times_out(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.connect.discovery.DISCOVERY_SECONDS", 0.1)
    monkeypatch.setattr("cli.connect.exchange.EXCHANGE_SECONDS", 0.1)
    with dripping(head) as host:
        with pytest.raises(ConnectError, match="in time") as stopped:
            await asyncio.to_thread(discover, host)
        assert stopped.value.verdict == "discovery_failed"
        with pytest.raises(ConnectError, match="in time") as stopped:
            await exchange_at(f"{host}/oauth/token/")
        assert stopped.value.verdict == "exchange_failed"


@pytest.mark.parametrize(
    ("encoding", "problem"), [("gzip", "is too large"), ("gzip, gzip", "Content-Encoding")]
)
async def test_a_compressed_response_of_the_token_endpoint_is_limited(
    encoding: str, problem: str
) -> None:
    head = OK + b"Content-Encoding: %s\r\n\r\n" % encoding.encode()
    with dripping(head + GZIPPED) as host, pytest.raises(ConnectError, match=problem):
        await exchange_at(f"{host}/oauth/token/")


@pytest.mark.parametrize("host", ["http://127.0.0.1:1", f"https://{'p' * 64}.example", "x", ""])
def test_case_73_discovery_fails_when_posthog_cannot_be_reached(host: str) -> None:
    with pytest.raises(ConnectError) as stopped:
        discover(host)
    assert stopped.value.verdict == "discovery_failed"


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize(
    "endpoint",
    [
        "http://posthog.example/oauth/",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
        "//127.0.0.1/x",
        "https://me:secret@posthog.example/",
        "https://",
        "http://127.0.0.1:1\n.example/",
    ],
)
def test_an_unsafe_endpoint_fails_discovery(posthog: FakePostHog, name: str, endpoint: str) -> None:
    posthog.discovery = CannedResponse(200, {**posthog.document, name: endpoint})
    with pytest.raises(ConnectError, match=name) as stopped:
        discover(posthog.url)
    assert stopped.value.verdict == "discovery_failed"
    assert "secret" not in str(stopped.value)


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
def test_discovery_refuses_endpoints_on_different_hosts(posthog: FakePostHog, name: str) -> None:
    document = {**posthog.document, name: "https://eu.posthog.com/oauth/"}
    posthog.discovery = CannedResponse(200, document)
    with pytest.raises(ConnectError, match="on different hosts") as stopped:
        discover(posthog.url)
    assert stopped.value.verdict == "discovery_failed"


def discover_plain_http(
    private_host: str, host: str, allow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discover a PostHog whose endpoints are at `host`, by plain http."""
    document = {
        "issuer": host,
        "authorization_endpoint": f"{host}/oauth/authorize/",
        "token_endpoint": f"{host}/oauth/token/",
    }
    response = DiscoveryResponse(
        url=f"{private_host}{PATH}", status=200, content=json.dumps(document).encode()
    )
    monkeypatch.setattr(discovery, "_get", lambda _url: response)
    assert discover(private_host, allow).token_endpoint == f"{host}/oauth/token/"


INTERNAL = "http://posthog.internal:8000"


@pytest.mark.parametrize(
    ("private_host", "allow"),
    [
        (INTERNAL, []),
        ("https://posthog.example", ["posthog.internal"]),
        ("http://10.0.0.5", ["posthog.internal:8000"]),
    ],
)
def test_plain_http_is_accepted_for_a_host_that_the_operator_configured(
    private_host: str, allow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    discover_plain_http(private_host, INTERNAL, allow, monkeypatch)


@pytest.mark.parametrize(
    ("private_host", "allow"),
    [
        ("https://posthog.internal", []),
        ("https://posthog.internal:8000", []),
        ("http://posthog.internal", []),
        ("https://posthog.example", ["posthog.internal:80"]),
        ("http://other.internal:8000", ["10.0.0.0/8"]),
    ],
)
def test_plain_http_is_refused_for_another_host_or_as_a_downgrade_from_https(
    private_host: str, allow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConnectError, match="OUTBOUND_ALLOW"):
        discover_plain_http(private_host, INTERNAL, allow, monkeypatch)


async def exchange_at(
    token_endpoint: str, code: str = "code", session: PkceSession | None = None
) -> Any:
    return await exchange(
        code,
        session or PkceSession(),
        token_endpoint=token_endpoint,
        redirect_uri=REDIRECT,
        client_id=CLIENT_ID,
    )


async def exchange_code(posthog: FakePostHog, session: PkceSession) -> Any:
    posthog.challenge = session.challenge
    return await exchange_at(f"{posthog.url}/oauth/token/", posthog.code, session)


async def test_case_74_the_exchange_sends_five_form_fields(posthog: FakePostHog) -> None:
    session = PkceSession()
    grant = await exchange_code(posthog, session)
    (request,) = posthog.requests
    assert request.method == "POST"
    assert request.form == {
        "grant_type": ["authorization_code"],
        "code": [posthog.code],
        "redirect_uri": [REDIRECT],
        "client_id": [CLIENT_ID],
        "code_verifier": [session.verifier],
    }
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json"
    assert not {"authorization", "cookie"} & set(request.headers)
    assert posthog.access_token not in repr(grant)


async def test_case_75_a_refused_code_fails_the_exchange_without_printing_secrets(
    posthog: FakePostHog,
) -> None:
    posthog.exchange = CannedResponse(
        400, {"error": "invalid_grant", "error_description": posthog.code}
    )
    session = PkceSession()
    with pytest.raises(ConnectError, match=r"400: invalid_grant") as stopped:
        await exchange_code(posthog, session)
    assert stopped.value.verdict == "exchange_failed"
    printed = f"{stopped.value!r} {stopped.value.hint} {stopped.value.__cause__}"
    assert posthog.code not in printed
    assert session.verifier not in printed


@pytest.mark.parametrize("missing", ["refresh_token", "access_token"])
@pytest.mark.parametrize("value", [None, ""])
async def test_case_76_a_response_without_a_token_fails_the_exchange(
    posthog: FakePostHog, missing: str, value: str | None
) -> None:
    if value is None:
        del posthog.tokens[missing]
    else:
        posthog.tokens[missing] = value
    with pytest.raises(ConnectError, match=missing) as stopped:
        await exchange_code(posthog, PkceSession())
    assert stopped.value.verdict == "exchange_failed"


@pytest.mark.parametrize(
    "response",
    [
        CannedResponse(307, {}, location="https://elsewhere.example/oauth/token/"),
        CannedResponse(302, {}, location="/login"),
        CannedResponse(200, b"not json"),
        CannedResponse(200, NESTED),
        CannedResponse(400, NESTED),
        CannedResponse(200, ["access_token"]),
    ],
)
async def test_a_redirected_or_malformed_response_fails_the_exchange(
    posthog: FakePostHog, response: CannedResponse
) -> None:
    posthog.exchange = response
    with pytest.raises(ConnectError) as stopped:
        await exchange_code(posthog, PkceSession())
    assert stopped.value.verdict == "exchange_failed"
    assert len(posthog.requests) == 1


async def test_a_redirect_of_the_token_endpoint_that_adds_a_slash_is_followed(
    posthog: FakePostHog,
) -> None:
    session = PkceSession()
    posthog.challenge = session.challenge
    grant = await exchange_at(f"{posthog.url}/oauth/token", posthog.code, session)
    assert grant.access_token == posthog.access_token
    redirected, answered = posthog.requests
    assert (redirected.path, answered.path) == ("/oauth/token", "/oauth/token/")
    assert redirected.form == answered.form


async def test_endless_redirects_fail_the_exchange(posthog: FakePostHog) -> None:
    with pytest.raises(ConnectError, match="too many redirects"):
        await exchange_at(f"{posthog.url}/oauth/token/endless")
    assert len(posthog.requests) == 4


async def test_the_lifetime_of_a_token_may_be_text_or_missing(posthog: FakePostHog) -> None:
    posthog.tokens["expires_in"] = "3600"
    from_text = (await exchange_code(posthog, PkceSession())).expires_at
    del posthog.tokens["expires_in"]
    by_default = (await exchange_code(posthog, PkceSession())).expires_at
    assert by_default < from_text
    assert from_text.endswith("Z")


@pytest.mark.parametrize("lifetime", ["soon", 1e300, -1, None, []])
async def test_an_invalid_lifetime_does_not_fail_the_exchange(
    posthog: FakePostHog, lifetime: object
) -> None:
    posthog.tokens["expires_in"] = lifetime
    assert (await exchange_code(posthog, PkceSession())).refresh_token == posthog.refresh_token

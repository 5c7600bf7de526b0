"""Requests through a proxy: which ones use it, and which are refused before they reach it."""

from __future__ import annotations

import asyncio
import base64
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from hogsend.posthog.errors import PostHogError
from hogsend.posthog.exchange import exchange
from hogsend.service.http import http_client
from hogsend.service.proxies import Proxies
from hogsend.service.settings.problems import describe_problems
from hogsend.service.settings.shared import OutboundSettings
from hogsend.service.ssrf import AddressRefused, EgressPolicy

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class RecordingProxy:
    """A proxy that responds itself, and records the head of each request."""

    url: str = ""
    response: bytes = RESPONSE
    heads: list[list[str]] = field(default_factory=list)

    @property
    def request_lines(self) -> list[str]:
        return [head[0] for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head.strip().split("\r\n"))
        writer.write(self.response)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def recording_proxy() -> AsyncIterator[RecordingProxy]:
    proxy = RecordingProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy


async def test_a_plain_http_request_is_sent_to_the_proxy_with_the_proxys_password() -> None:
    async with recording_proxy() as proxy:
        url = proxy.url.replace("//", "//me:word@")
        async with http_client(EgressPolicy(), proxies=Proxies.of(http=url)) as http:
            response = await http.get(
                "http://posthog.example/x", headers={"Authorization": "Bearer b"}
            )
    assert response.text == "ok"
    assert proxy.request_lines == ["GET http://posthog.example/x HTTP/1.1"]
    word = base64.b64encode(b"me:word").decode()
    assert f"Proxy-Authorization: Basic {word}" in proxy.heads[0]


async def test_an_https_request_shows_the_proxy_only_the_host_and_port() -> None:
    async with recording_proxy() as proxy:
        proxy.response = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        async with http_client(EgressPolicy(), proxies=Proxies.of(https=proxy.url)) as http:
            with pytest.raises(PostHogError, match="407"):
                await exchange(
                    http,
                    "GET",
                    "https://posthog.example/secret",
                    headers={"Authorization": "Bearer phx_word"},
                    content=None,
                    seconds=10,
                    max_bytes=1000,
                )
    assert proxy.request_lines == ["CONNECT posthog.example:443 HTTP/1.1"]
    assert not [line for line in proxy.heads[0] if "phx_word" in line or "secret" in line]


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "169.254.169.254", "0x0a000001", "167772161", "[::ffff:10.0.0.1]"),
        *("metadata", "metadata.google.internal", "printer.local", "nas.lan.", "x.home.arpa"),
        "kubernetes.default.svc",
        # Some proxies parse these texts as addresses.
        *("10.0.0.1.", "10%2e0.0.1", "10.0.0.1%00.example.com", "10.0.0.1..", "1.0x7f000001"),
    ],
)
async def test_an_internal_host_is_refused_before_the_request_reaches_the_proxy(host: str) -> None:
    async with (
        recording_proxy() as proxy,
        http_client(EgressPolicy(), proxies=Proxies.of(http=proxy.url)) as http,
    ):
        with pytest.raises(AddressRefused, match="OUTBOUND_ALLOW"):
            await http.get(f"http://{host}/")
    assert proxy.heads == []


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://posthog.internal:8000/", "posthog.internal"),
        ("http://posthog.internal:8000/", "posthog.internal:8000"),
        ("http://posthog:8000/", "posthog"),
        ("http://10.1.2.3:8000/", "10.0.0.0/8"),
    ],
)
async def test_an_internal_host_that_the_operator_allows_is_reached_through_the_proxy(
    url: str, allow: str
) -> None:
    async with recording_proxy() as proxy:
        policy = EgressPolicy.of((allow,))
        async with http_client(policy, proxies=Proxies.of(http=proxy.url)) as http:
            assert (await http.get(url)).text == "ok"
    assert proxy.request_lines == [f"GET {url} HTTP/1.1"]


async def test_another_port_of_an_allowed_host_is_refused() -> None:
    policy = EgressPolicy.of(("posthog.internal:8000",))
    async with http_client(policy, proxies=Proxies.of(http="http://127.0.0.1:9")) as http:
        with pytest.raises(AddressRefused):
            await http.get("http://posthog.internal:8001/")


async def test_the_local_machine_is_called_without_the_proxy_and_only_if_it_is_allowed() -> None:
    async with recording_proxy() as here:
        async with http_client(
            EgressPolicy.of(("127.0.0.1",)), proxies=Proxies.of(http="http://127.0.0.1:9")
        ) as http:
            assert (await http.get(f"{here.url}/x")).text == "ok"
        async with http_client(EgressPolicy(), proxies=Proxies.of(http=here.url)) as http:
            with pytest.raises(AddressRefused):
                await http.get("http://localhost/")
    assert here.request_lines == ["GET /x HTTP/1.1"]


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "https://a.example/", True),
        ("a.example", "https://a.example/", True),
        ("a.example", "https://A.EXAMPLE./", True),
        ("a.example", "https://x.a.example/", True),
        (".a.example", "https://a.example/", True),
        ("*.a.example", "https://x.a.example/", True),
        ("a.example", "https://ba.example/", False),
        ("a.example:8443", "https://a.example:8443/", True),
        ("a.example:8443", "https://a.example/", False),
        ("a.example:443", "https://a.example/", True),
        ("203.0.113.0/24", "https://203.0.113.9/", True),
        ("203.0.113.9", "https://203.0.113.9/", True),
        ("203.0.113.9:8443", "https://203.0.113.9/", False),
        ("2001:db8::/32", "https://[2001:db8::1]/", True),
        ("[2001:db8::1]", "https://[2001:db8::1]/", True),
        ("203.0.113.0/24", "https://a.example/", False),
        ("b.example c.example, a.example", "https://a.example/", True),
        ("b.example c.example, a.example", "https://c.example/", True),
        ("<local>, 10.*", "https://a.example/", False),
        ("", "https://a.example/", False),
    ],
)
def test_no_proxy_lists_the_hosts_that_are_called_directly(
    no_proxy: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    proxy = OutboundSettings().proxies.to(httpx.URL(url))
    assert proxy == (None if direct else "http://proxy.example:3128")


def test_each_scheme_has_its_own_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "one.example:3128")
    monkeypatch.setenv("ALL_PROXY", "http://two.example:3128")
    proxies = OutboundSettings().proxies
    assert proxies.to(httpx.URL("https://a.example/")) == "http://one.example:3128"
    assert proxies.to(httpx.URL("http://a.example/")) == "http://two.example:3128"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("socks5://me:word@p.example:1", "SOCKS is not supported"),
        ("http://", "it is not an address with a scheme and a host"),
        ("http://me:word", "it is not an address"),
        ("ftp://word", "it is not the address of a proxy"),
        ("a b", "it has a space"),
    ],
)
def test_an_invalid_proxy_is_reported_without_its_password(
    value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(ValidationError) as raised:
        OutboundSettings()
    (problem,) = describe_problems(raised.value)
    assert problem.startswith(f"ALL_PROXY: {why}")
    assert "word" not in problem.replace("password", "")


@pytest.mark.parametrize("service", ["credentials", "provisioner", "analytics"])
async def test_a_service_that_calls_posthog_uses_the_proxies(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Proxies | None] = []

    class Requested(Exception):
        """The service requested its HTTP client."""

    def client(_policy: EgressPolicy, *, proxies: Proxies | None = None) -> Any:
        received.append(proxies)
        raise Requested

    app = importlib.import_module(f"services.{service}.app")
    monkeypatch.setattr(app, "http_client", client)
    # Would configure logging in this process, for all later tests.
    monkeypatch.setattr(app.telemetry, "reporting", lambda *_: nullcontext())
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1/x")
    monkeypatch.setenv("BETTER_AUTH_SECRET", "secret")
    with pytest.raises(Requested):
        await app.run()
    assert received == [Proxies(https="http://proxy.example:3128")]

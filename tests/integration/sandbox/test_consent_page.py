"""The consent page, in Chromium."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.async_api import Page, async_playwright, expect

from hogsend.posthog.scopes import SCOPES
from sandbox.oauth.scopes import describe, fold
from tests.integration.sandbox.driver import Driver, authorization, sandbox
from tests.ports import free_port
from tests.waiting import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
INSTALL_CHROMIUM = "Chromium is not installed: apt-get install -y chromium"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason=INSTALL_CHROMIUM
)


class Callback:
    """The loopback server of an OAuth client, which receives the redirect."""

    def __init__(self) -> None:
        self.uri = f"http://127.0.0.1:{free_port()}/callback"
        self.calls: list[dict[str, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        if target.startswith("/callback"):
            self.calls.append(dict(parse_qsl(urlsplit(target).query)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def browser_page() -> AsyncIterator[Page]:
    assert CHROMIUM is not None, INSTALL_CHROMIUM
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield await browser.new_page()
        await browser.close()


@pytest.fixture
async def client() -> AsyncIterator[Callback]:
    callback = Callback()
    port = urlsplit(callback.uri).port
    server = await asyncio.start_server(callback.serve, "127.0.0.1", port)
    yield callback
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def consent(client: Callback) -> AsyncIterator[tuple[Driver, Page]]:
    """Open the consent page of an authorization request of `client`."""
    async with sandbox(auto_consent=False) as posthog, browser_page() as page:
        request = posthog.http.build_request(
            "GET", "/oauth/authorize/", params=authorization(redirect_uri=client.uri)
        )
        await page.goto(str(request.url))
        yield posthog, page


async def test_the_consent_page_shows_the_client_and_the_scopes(client: Callback) -> None:
    async with consent(client) as (_, page):
        await expect(page.get_by_role("heading", level=1)).to_have_text("Authorize Hogsend")
        await expect(page.get_by_role("note")).to_contain_text("not PostHog")
        items = page.get_by_role("listitem")
        granted = fold(SCOPES)
        await expect(items).to_have_count(len(granted))
        for number, scope in enumerate(granted):
            await expect(items.nth(number)).to_contain_text(describe(scope))
            await expect(items.nth(number)).to_contain_text(scope)
        await expect(page.get_by_label("Project")).to_have_value("4242")
        await expect(page.get_by_role("button")).to_have_text(["Deny", "Allow"])


async def test_the_consent_page_makes_no_other_request(client: Callback) -> None:
    urls: list[str] = []
    async with sandbox(auto_consent=False) as posthog, browser_page() as page:
        page.on("request", lambda request: urls.append(request.url))
        query = authorization(redirect_uri=client.uri)
        request = posthog.http.build_request("GET", "/oauth/authorize/", params=query)
        await page.goto(str(request.url), wait_until="networkidle")
        assert [url for url in urls if not url.endswith("/favicon.ico")] == [str(request.url)]


async def test_allow_redirects_to_the_client_with_a_valid_code(client: Callback) -> None:
    async with consent(client) as (posthog, page):
        await page.get_by_role("button", name="Allow").click()
        await eventually(lambda: client.calls)
        assert client.calls[0]["state"] == "a-state"
        response = await posthog.exchange(client.calls[0]["code"], redirect_uri=client.uri)
        assert response.json()["scoped_teams"] == [4242]


async def test_deny_redirects_to_the_client_with_access_denied(client: Callback) -> None:
    async with consent(client) as (posthog, page):
        await page.get_by_role("button", name="Deny").click()
        await eventually(lambda: client.calls)
        assert client.calls == [{"error": "access_denied", "state": "a-state"}]
        assert (await posthog.state())["oauth"]["codes"] == 0


async def test_the_consent_page_can_be_used_with_the_keyboard(client: Callback) -> None:
    async with consent(client) as (_, page):
        for _ in range(3):
            await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Allow")).to_be_focused()
        await page.keyboard.press("Enter")
        await eventually(lambda: client.calls)
        assert "code" in client.calls[0]

"""The console's page: when it is served, and its strict content security policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.gateway.console import pages
from services.gateway.console.pages import is_console_enabled
from tests.unit.gateway.fakes import FakeGateway, fake_gateway

PAGE = "/console"
DIRECTORY = Path(pages.__file__).with_name("static")
FILES = sorted(f"/console/{file.name}" for file in DIRECTORY.glob("*.*s"))


@pytest.mark.parametrize("url", [PAGE, *FILES])
async def test_the_page_and_its_files_have_a_policy_without_inline_or_foreign_content(
    gateway: FakeGateway, url: str
) -> None:
    response = await gateway.http.get(url)
    assert response.status_code == 200
    assert response.headers["content-type"].count("charset=utf-8") == 1
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


async def test_the_page_has_no_inline_script_or_style_and_loads_only_its_own_files(
    gateway: FakeGateway,
) -> None:
    page = (await gateway.http.get(PAGE)).text
    assert re.findall(r"(?:src|href)=\"([^\"]+)\"", page) == [
        "/console/style.css",
        "/console/app.js",
        "#main",
    ]
    assert "<style" not in page
    assert not re.search(r"\s(?:on\w+|style)=", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]


@pytest.mark.parametrize("url", FILES)
async def test_no_script_writes_html_or_styles_or_stores_anything_in_the_browser(
    gateway: FakeGateway, url: str
) -> None:
    script = (await gateway.http.get(url)).text
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\.style\b"
        r"|localStorage|sessionStorage|document\.cookie",
        script,
    )


async def test_the_page_loads_every_script_at_once(gateway: FakeGateway) -> None:
    """A script that the page requested later could not be loaded while the gateway is down."""
    loaded: set[str] = set()
    pending = {"/console/app.js"}
    while pending:
        url = pending.pop()
        loaded.add(url)
        script = (await gateway.http.get(url)).text
        assert "import(" not in script
        pending |= set(re.findall(r"from \"([^\"]+)\"", script)) - loaded
    assert loaded == {url for url in FILES if url.endswith(".js")}


async def test_the_first_load_is_under_150_kb(gateway: FakeGateway) -> None:
    loaded = [len((await gateway.http.get(url)).content) for url in [PAGE, *FILES]]
    assert sum(loaded) < 150_000


@pytest.mark.parametrize("name", ["pages.py", "..%2Fpages.py", "index.html"])
async def test_no_other_file_is_served(gateway: FakeGateway, name: str) -> None:
    assert (await gateway.http.get(f"{PAGE}/{name}")).status_code == 404


async def test_the_address_of_the_gateway_leads_to_the_console(gateway: FakeGateway) -> None:
    response = await gateway.http.get("/")
    assert (response.status_code, response.headers["location"]) == (302, PAGE)


async def test_a_disabled_console_responds_like_an_unknown_path() -> None:
    async with fake_gateway(console=False) as gateway:
        unknown = await gateway.http.get("/nothing-here")
        for url in ["/", PAGE, *FILES]:
            response = await gateway.http.get(url)
            assert (response.status_code, response.json()) == (404, unknown.json())


@pytest.mark.parametrize(
    ("configured", "host", "enabled"),
    [
        (None, "127.0.0.1", True),
        (None, "::1", True),
        (None, "localhost", True),
        (None, "0.0.0.0", False),
        (None, "gateway.example", False),
        (True, "0.0.0.0", True),
        (False, "127.0.0.1", False),
    ],
)
def test_without_a_setting_the_console_is_served_on_loopback_only(
    *, configured: bool | None, host: str, enabled: bool
) -> None:
    assert is_console_enabled(configured, host=host) is enabled

"""A browser and a stack with data, for the tests of the console."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import async_playwright, expect

from tests.e2e.browsing import CHROMIUM, READ_KEY, SKIP_REASON, Browsing, seed
from tests.ports import free_port
from tests.running_stack import up


@pytest.fixture(scope="module")
async def browsing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browsing]:
    assert CHROMIUM is not None, SKIP_REASON
    directory = tmp_path_factory.mktemp("console")
    sandbox = ("--sandbox", "--sandbox-port", str(free_port()))
    async with (
        up(directory / "home", directory, *sandbox, ADMIN_READ_API_KEY=READ_KEY) as stack,
        async_playwright() as playwright,
    ):
        await seed(stack)
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        # Three other pytest workers may slow the browser down.
        expect.set_options(timeout=30_000)
        yield Browsing(stack, browser)
        expect.set_options(timeout=None)
        await browser.close()

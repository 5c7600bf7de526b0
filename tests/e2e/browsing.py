"""The console in a real browser, with a stack that holds ordinary, hostile and very large data.

With `SCREENSHOTS` set to a directory, screenshots of the pages are stored there; docs/console.md
shows some of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.running_stack import Up
from tests.waiting import PATIENCE_SECONDS, eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parents[1] / "console" / "node_modules" / "axe-core" / "axe.min.js"
SKIP_REASON = (
    "Chromium is not installed: apt-get install -y chromium"
    if CHROMIUM is None
    else "axe-core is not installed: make node-tools (needs npm)"
)
READ_KEY = "k-read-k-read-k-read"
HOSTILE = "<img src=x onerror=alert(1)>\u202e\u0000 مرحبا"
JOINED = "\U0001f469\u200d\U0001f4bb \u0645\u06cc\u200c\u062e"
UNSEEN = f"zero\u200bwidth\u2060\u00ad\U000e0041 {JOINED}"
LONG_NUMBER = 12345678901234567890
SIZES = ((360, 740), (1280, 800), (2560, 1300))
ALL_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
CONTRAST = ("color-contrast",)
VIEWS = (
    "",
    "events",
    "contacts",
    "contacts?key=ada",
    "deadletters",
    "destinations",
    "connect",
    "audit",
)

IN_BROWSER = [
    pytest.mark.skipif(
        not os.environ.get("CI") and (CHROMIUM is None or not AXE.exists()), reason=SKIP_REASON
    ),
    pytest.mark.xdist_group("console"),
]
"""Marks of the tests: one module after the other, because each starts a stack of its own."""


@dataclass
class Console:
    """A page of the console, with the errors and dialogs that the browser reported in it."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)

    async def open(self, view: str = "") -> None:
        """Open a view, and wait until it is rendered."""
        await self.page.goto(f"{self.url}/console#/{view}")
        await self.page.wait_for_selector("main:not([aria-busy]) > h1")

    async def sign_in(self, key: str) -> None:
        """Sign in with the keyboard alone."""
        await self.open("audit")
        await self.page.get_by_label("Key").fill(key)
        await self.page.keyboard.press("Enter")
        await expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        await expect(self.page.get_by_label("Key")).to_have_count(0)

    async def axe(self, rules: Sequence[str]) -> list[str]:
        """Return the violations that axe-core finds on the page."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text())
        result: Any = await self.page.evaluate(f"axe.run({{runOnly: {list(rules)}}})")
        return [
            f"{violation['id']}: {node['html']} {node['failureSummary']}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ]

    async def screenshot(self, name: str) -> None:
        """Store a screenshot of the page if `SCREENSHOTS` is set."""
        if directory := os.environ.get("SCREENSHOTS"):
            await self.page.screenshot(path=Path(directory) / f"{name}.png")


@dataclass
class Browsing:
    """The stack, the browser, and the signed-in sessions that tests share."""

    stack: Up
    browser: Browser
    sessions: dict[str, BrowserContext] = field(default_factory=dict)

    @property
    def admin_key(self) -> str:
        return self.stack.admin["Authorization"].removeprefix("Bearer ")

    @asynccontextmanager
    async def console(
        self, key: str | None = None, *, fresh: bool = False
    ) -> AsyncIterator[Console]:
        """A page, signed in with `key`: in a session that tests share, unless it is `fresh`."""
        context = self.sessions.get(key or "")
        is_new = context is None or fresh
        if context is None or fresh:
            context = await self.browser.new_context()
        page = await context.new_page()
        console = Console(page, self.stack.summary["gateway"])
        page.on("pageerror", lambda error: console.errors.append(str(error)))
        page.on(
            "console",
            lambda entry: console.errors.append(entry.text) if entry.type == "error" else None,
        )
        page.on("dialog", lambda dialog: console.errors.append(f"dialog {dialog.message}"))
        try:
            if key is not None and is_new:
                await console.sign_in(key)
                # Chromium logs every response with a status of 400 or more as an error.
                console.errors.clear()
                if not fresh:
                    self.sessions[key] = context
            yield console
        finally:
            await page.close()
            if context not in self.sessions.values():
                await context.close()


async def seed(stack: Up) -> None:
    """Store five events, their contacts, one merge and three dead letters."""
    huge = "x" * 1_000_000
    ada, ben = {"email": "ada@example.com", "name": HOSTILE}, {"email": "ben@example.com"}
    events: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
        ("signed_up", "ada", {"plan": "pro", "unseen": UNSEEN, "long": LONG_NUMBER}, ada),
        ("signed_up", "ben", {}, ben),
        ("shared_a_computer", "ada", {}, ben),
        (HOSTILE, HOSTILE, {"a": HOSTILE, "huge": huge}, {"email": f"{HOSTILE}@example.com"}),
        ("n" * 100_000, "u" * 100_000, {}, {}),
    ]
    for number, (event, user, properties, person) in enumerate(events):
        body = {
            "event": {
                "event": event,
                "distinct_id": user,
                "properties": properties,
                "uuid": f"e-{number}",
            },
            "person": {"properties": person},
        }
        response = await stack.http.post("/v1/webhooks/posthog", json=body)
        assert response.is_success, response.text
        # One batch each: ids that become one person within a batch leave no merge to undo.
        await eventually(partial(_has_stored, stack, number + 1))
    client = await nats.connect(stack.app_url, inbox_prefix="_INBOX_app")
    for number in range(3):
        report = b'{"data":{"userId":"u_%d"}}' % number
        # The type is unknown, so ingest publishes the report as a dead letter.
        await client.jetstream(timeout=PATIENCE_SECONDS).publish(
            "hogsend.engagement.email.burnt", report
        )
    await client.close()

    async def is_seeded() -> bool:
        letters = await stack.http.get("/v1/admin/deadletters", headers=stack.admin)
        return await stack.stored() == 5 and letters.json()["total"] == 3

    await eventually(is_seeded, 60)


async def _has_stored(stack: Up, count: int) -> bool:
    return await stack.stored() == count

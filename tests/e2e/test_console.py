"""The console in a real browser, with a stack that holds ordinary, hostile and very large data.

With `SCREENSHOTS` set to a directory, screenshots of the pages are stored there; docs/console.md
shows some of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import nats
import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, async_playwright, expect

from services.gateway import sessions
from tests.ports import free_port
from tests.running_stack import Up, up
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

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("CI") and (CHROMIUM is None or not AXE.exists()), reason=SKIP_REASON
    ),
    pytest.mark.xdist_group("console"),
]


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


async def test_signing_in_reports_a_wrong_key_and_opens_the_requested_view_with_a_valid_one(
    browsing: Browsing,
) -> None:
    async with browsing.console() as console:
        await console.open("deadletters")
        page = console.page
        await page.get_by_label("Key").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("This key is not known")
        assert await console.axe(ALL_RULES) == []
        # A key may be copied with white space around it.
        await page.get_by_label("Key").fill(f" {browsing.admin_key}\t")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Dead letters")).to_be_focused()
        assert browsing.admin_key not in await page.content()
        (cookie,) = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        await page.get_by_role("banner").get_by_role("link", name="Sign in").click()
        await expect(page.get_by_label("Key")).to_be_visible()


async def test_every_view_can_be_used_at_every_size_in_light_and_dark(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        for view in VIEWS:
            name = view.partition("?")[0] or "overview"
            if view.endswith("?key=ada"):
                name = "contact"
            await page.emulate_media(color_scheme="light")
            await console.open(view)
            for width, height in SIZES:
                await page.set_viewport_size({"width": width, "height": height})
                assert await page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), (
                    f"{view} is wider than {width}"
                )
                await console.screenshot(f"{name}-{width}")
            assert "`" not in await page.locator("main").inner_text(), view
            assert await console.axe(ALL_RULES) == [], view
            await page.emulate_media(color_scheme="dark")
            assert await console.axe(CONTRAST) == [], view
            await console.screenshot(f"{name}-dark")
        assert console.errors == []


async def test_the_overview_draws_known_rates_and_shows_unknown_ones_as_gaps(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        measured_at: set[str] = set()
        stack = browsing.stack

        async def is_measured() -> bool:
            activity = (await stack.http.get("/v1/admin/activity", headers=stack.admin)).json()
            if activity["at"] not in measured_at:
                # One event per measurement: an event that was stored before ingest's first reply to
                # the gateway counts in no rate.
                measured_at.add(activity["at"])
                event = {"event": "measured", "userId": "grace"}
                await stack.http.post("/v1/events", json=event, headers=stack.admin)
            return bool(max(filter(None, activity["series"]["stored"]), default=0))

        await eventually(is_measured, 60)
        await console.open()
        steps = page.get_by_role("region", name="Events")
        await expect(steps.get_by_role("row", name="Stored")).not_to_contain_text("unknown")
        await expect(page.locator("#loop li:nth-child(4)")).to_contain_text("0/s")
        assert len(await page.locator("figure .line-1").first.get_attribute("d") or "") > 0

        async def without_ingest(route: Route) -> None:
            response = await route.fetch()
            activity = await response.json()
            activity["latest"] |= {"stored": None, "announced": None, "waiting": None, "refused": 2}
            # The measured series may have gaps on a slow machine, so they are replaced.
            activity["series"] |= {name: [1, 1, 1] for name in ("webhooks", "announced")}
            activity["series"]["stored"] = [1, None, 1]
            await route.fulfill(response=response, json=activity)

        await page.route("**/v1/admin/activity", without_ingest)
        await console.open("audit")
        await console.open()
        await expect(page.locator("#loop li:nth-child(5)")).to_contain_text("Storesunknown")
        await expect(page.locator("#todo")).to_contain_text("Webhooks are refused")
        await expect(page.locator("#todo")).to_contain_text("3 dead letters wait")
        lines = page.get_by_role("region", name="Events").locator("xpath=..").locator("svg path")
        # An unknown value is a gap, after which the line starts again.
        starts = [(await each.get_attribute("d") or "").count("M") for each in await lines.all()]
        assert starts.count(2) == 1
        assert console.errors == []


async def test_the_overview_reports_a_deleted_destination_unless_posthog_was_never_connected(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        state = "present"

        async def deleted(route: Route) -> None:
            response = await route.fetch()
            body = await response.json()
            off = {"state": "off", "reason": "It was deleted.", "remediation": "Run `x`."}
            for capability in body["capabilities"]:
                if capability["name"] == "eventsIn":
                    capability.update(off)
            await route.fulfill(response=response, json=body)

        async def connected(route: Route) -> None:
            health = await (await route.fetch()).json()
            health["credentials"]["posthog"] = {"state": state}
            await route.fulfill(json=health)

        await page.route("**/v1/admin/capabilities", deleted)
        await page.route("**/v1/health", connected)
        await console.open()
        await expect(page.locator("#todo")).to_contain_text("It was deleted. Run x.")
        await expect(page.locator("main")).to_contain_text("All services work, but receiving")
        # A PostHog that was never connected is no fault.
        state = "absent"
        await expect(page.locator("#todo")).not_to_contain_text("It was deleted.")


async def test_values_of_events_and_contacts_are_shown_as_text_and_cut(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("events")
        table = page.get_by_role("region", name="Events")
        await expect(table).to_contain_text("<img src=x onerror=alert(1)>\\u202e")
        await expect(table).to_contain_text("… (100,000 characters)")
        assert len(await page.content()) < 100_000
        await table.get_by_role("link", name="<img src=x").first.click()
        await expect(page.get_by_role("region", name="Properties")).to_contain_text("<img src=x")
        assert len(await page.content()) < 250_000
        await page.get_by_role("button", name="Show more").click()
        await console.open("contacts")
        listed = page.get_by_role("region", name="Contacts")
        await expect(listed).to_contain_text("… (100,000 characters)")
        await listed.get_by_role("link", name="ada", exact=True).click()
        properties = page.get_by_role("region", name="Properties", exact=True)
        await expect(properties).to_contain_text("<img src=x")
        await page.get_by_text("All of them as JSON").click()
        await expect(page.get_by_role("region", name="Properties as JSON")).to_be_visible()
        await properties.get_by_role("link", name="e-0").first.click()
        await expect(page.get_by_role("region", name="Events")).to_contain_text("signed_up")
        for view in (f"contacts?key={quote(HOSTILE)}", f"contacts?key={quote(HOSTILE[:8])}"):
            await console.open(view)
            await expect(page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")
        await console.open(f"events/live?event={quote(HOSTILE)}")
        await expect(page.get_by_role("status")).to_have_text("Watching.")
        event = {"event": HOSTILE, "userId": HOSTILE, "email": "mallory@example.com"}
        sent = await browsing.stack.http.post(
            "/v1/events", json=event, headers=browsing.stack.admin
        )
        assert sent.is_success, sent.text
        await expect(page.locator("tbody tr")).to_contain_text("<img src=x onerror=alert(1)>")
        assert await page.locator("img").count() == 0
        assert console.errors == []


async def test_an_event_is_found_by_its_id_and_leads_to_its_contact(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("events")
        await page.get_by_label("Event id").fill("e-0")
        await page.keyboard.press("Enter")
        matches = page.get_by_role("link", name="signed_up")
        await expect(matches).to_have_count(1)
        await matches.click()
        shown = page.get_by_role("region", name="Properties")
        await expect(shown).to_contain_text(f'"long": {LONG_NUMBER}')
        # Characters that join an emoji, or the letters of a word, are shown unescaped.
        await expect(shown).to_contain_text(f"zero\\u200bwidth\\u2060\\u00ad\\u{{e0041}} {JOINED}")
        way = page.locator(".way")
        await expect(way).to_contain_text("of the stream EVENTS")
        await expect(way).to_contain_text("No destination has it")
        assert await console.axe(ALL_RULES) == []
        await page.get_by_role("link", name="ada").click()
        await expect(page.get_by_role("region", name="Known by")).to_contain_text("ada@example.com")


async def test_the_back_button_restores_the_scroll_position(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await page.set_viewport_size({"width": 360, "height": 300})
        await console.open("events")
        await page.get_by_role("link", name="signed_up").last.click()
        await expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
        assert await page.evaluate("scrollY") == 0
        await page.go_back()
        await expect(page.get_by_role("link", name="signed_up").last).to_be_in_viewport()
        assert await page.evaluate("scrollY") > 0


async def test_times_are_in_the_browsers_zone_or_in_utc(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("events")
        shown = page.get_by_role("region", name="Events").locator("time").first
        local = await shown.inner_text()
        zone = page.get_by_role("button", name="Times in UTC")
        await zone.focus()
        await page.keyboard.press("Enter")
        await expect(shown).to_have_text(re.compile("UTC$"))
        await expect(zone).to_be_focused()
        assert await console.axe(CONTRAST) == []
        await page.get_by_role("link", name="Contacts", exact=True).click()
        listed = page.get_by_role("region", name="Contacts")
        await expect(listed.locator("time").first).to_have_text(re.compile("UTC$"))
        await page.get_by_role("link", name="Events", exact=True).click()
        await zone.click()
        await expect(shown).to_have_text(local)


async def test_an_invalid_address_is_reported_and_a_click_on_the_current_view_reloads_it(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        for view in ("constructor", "__proto__"):
            await console.open(view)
            await expect(page.locator("main")).to_contain_text("does not exist")
        await console.open("events?id=never-seen")
        await expect(page.locator("main")).to_contain_text("It may still wait to be stored")
        await console.open("deadletters/%")
        await expect(page.get_by_role("alert")).to_have_text("Not Found")
        await console.open("contacts?key=ada")
        assert [error for error in console.errors if "Failed to load" not in error] == []
        for control in (
            page.get_by_role("link", name="Contacts", exact=True),
            page.get_by_role("button", name="Show", exact=True),
        ):
            await console.open("contacts")
            async with page.expect_response("**/v1/admin/contacts*"):
                await control.click()


async def test_an_unfinished_search_shows_how_far_back_it_is_and_can_be_continued(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        empty = {"events": [], "total": 0, "limit": 50, "offset": 0, "totalEstimated": True}
        progress = {"searchedTo": "2026-03-01T12:00:00Z", "nextBefore": "next"}
        requests = 0

        async def unfinished(route: Route) -> None:
            nonlocal requests
            requests += 1
            if requests == 16:
                await route.continue_(url=route.request.url.partition("&before")[0])
            else:
                await route.fulfill(json=empty | progress)

        await page.route("**/v1/admin/events?*", unfinished)
        await console.open("events?event=signed_up&userId=ada")
        await expect(page.locator("main")).to_contain_text("No event matches back to")
        assert requests == 10
        assert await console.axe(ALL_RULES) == []
        await page.get_by_role("link", name="Search further back").click()
        await expect(page.get_by_role("region", name="Events")).to_contain_text("signed_up")


async def test_a_page_loaded_in_the_background_starts_watching_when_it_becomes_visible(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        await page.add_init_script(
            "Object.defineProperty(document, 'hidden', {get: () => !window.isVisible})"
        )
        await page.goto("about:blank")
        await console.open("events/live")
        await expect(page.get_by_role("status")).to_have_text("Loading…")
        assert not [url for url in requests if "/console/live?" in url]
        await page.evaluate(
            "isVisible = true; document.dispatchEvent(new Event('visibilitychange'))"
        )
        await expect(page.get_by_role("status")).to_have_text("Watching.")


async def test_events_are_shown_as_they_arrive_until_watching_is_paused(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("events/live?event=watched")
        await expect(page.get_by_role("status")).to_have_text("Watching.")
        rows = page.get_by_role("region", name="Events as they arrive").locator("tbody tr")

        async def send(*names: str) -> None:
            for name in names:
                event = {"event": name, "userId": "grace"}
                response = await browsing.stack.http.post(
                    "/v1/events", json=event, headers=browsing.stack.admin
                )
                assert response.is_success

        await send("watched", "not_watched", "watched")
        await expect(rows).to_have_count(2)
        await expect(page.locator("main")).to_contain_text("2 arrived.")
        assert await console.axe(ALL_RULES) == []
        await page.get_by_role("button", name="Pause").click()
        await send("watched")
        await expect(page.get_by_role("button", name="Resume (1 new)")).to_be_visible()
        await expect(rows).to_have_count(2)
        await page.get_by_role("button", name="Resume").click()
        await expect(rows).to_have_count(3)
        # New rows would move the row that has the focus, so the focus pauses watching.
        await rows.first.get_by_role("link", name="watched").focus()
        await expect(page.get_by_role("button", name="Resume (0 new)")).to_be_visible()
        await page.get_by_role("button", name="Resume").click()
        await page.set_viewport_size({"width": 360, "height": 200})
        await page.evaluate("scrollTo(0, 300)")
        await expect(page.get_by_role("button", name="Resume (0 new)")).to_be_attached()
        await page.evaluate("scrollTo(0, 0)")
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await rows.first.get_by_role("link", name="watched").click()
        await expect(page.get_by_role("definition").filter(has_text="grace").first).to_be_visible()
        assert console.errors == []


async def test_a_read_key_opens_the_views_and_gets_no_controls_that_change_anything(
    browsing: Browsing,
) -> None:
    async with browsing.console(READ_KEY) as console:
        page = console.page
        await console.open("audit")
        await expect(page.get_by_role("alert")).to_contain_text("needs an admin key")
        # An event's page is reached by a link.
        readable = {*VIEWS, "deadletters/1", "destinations/new", "events/live"} - {
            "audit",
            "connect",
        }
        for view in sorted(readable):
            await console.open(view)
            alerts = await page.get_by_role("alert").all_inner_texts()
            assert "".join(alerts) == "", view
            for name in ("Replay", "Purge", "Undo merge", "Create a destination"):
                await expect(page.get_by_role("button", name=name)).to_have_count(0)
                await expect(page.get_by_role("link", name=name)).to_have_count(0)
        await console.open("connect")
        await expect(page.locator("main")).to_contain_text("may only read")
        await expect(page.get_by_role("definition").first).to_be_visible()
        await expect(page.locator("main").get_by_role("button")).to_have_count(0)


async def test_a_merge_is_undone(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("contacts?key=ada")
        await page.get_by_role("button", name="Undo merge").click()
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Undo merge").click()
        assert await console.axe(ALL_RULES) == []
        await page.get_by_role("dialog").get_by_role("button", name="Undo the merge").click()
        await expect(page.get_by_role("button", name="Undo merge")).to_have_count(0)
        await console.open("contacts?key=ben")
        await expect(page.get_by_role("region", name="Known by")).to_contain_text("ben@example.com")


async def test_dead_letters_are_replayed_and_purged(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("deadletters/1")
        await expect(page.get_by_role("region", name="Message")).to_contain_text('"userId": "u_')
        await console.open("deadletters")
        await page.get_by_label("Select 1").check()
        await page.get_by_role("button", name="Purge 1 selected").click()
        await page.get_by_role("dialog").get_by_role("button", name="Purge").click()
        await expect(page.locator(".outcome")).to_contain_text("1 dead letter purged.")
        await page.get_by_role("button", name="Refresh").click()
        await page.get_by_role("button", name="Replay all 2").click()
        await page.get_by_role("dialog").get_by_role("button", name="Replay").click()
        await expect(page.locator(".outcome")).to_contain_text("2 dead letters replayed.")

        async def are_dead_letters_again() -> bool:
            # Ingest does not know their type at the second attempt either.
            await console.open("")
            await console.open("deadletters")
            return await page.get_by_role("button", name="Purge all 2").count() == 1

        await eventually(are_dead_letters_again, 60)
        await page.get_by_role("button", name="Purge all 2").click()
        await page.get_by_role("dialog").get_by_role("button", name="Purge").click()
        await expect(page.locator(".outcome")).to_contain_text("2 dead letters purged.")
        await page.get_by_role("button", name="Refresh").click()
        await expect(page.locator("main")).to_contain_text("No dead letters")
        await console.open("audit?actor=console%3Afull-admin")
        await expect(page.get_by_role("region", name="Audit trail")).to_contain_text("purge")


async def test_a_destination_is_created_paused_resumed_edited_and_deleted(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("destinations/new")
        assert await console.axe(ALL_RULES) == []
        await page.get_by_label("Description").fill("Mine <b>")
        await page.get_by_role("button", name="Save").click()
        types = ["email.sent", "email.opened", "email.clicked", "email.bounced", "email.action"]
        await page.get_by_label("Event types").fill("\n".join(types))
        await page.get_by_role("textbox", name="Settings").fill("{")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("alert")).to_have_text("The settings are not JSON.")
        await page.get_by_role("textbox", name="Settings").fill(
            '{"syncPersons": true, "eventNames": {}}'
        )
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Pause").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("main dd .state")).to_have_text("paused")
        await expect(page.get_by_role("button", name="Resume")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main dd .state")).to_have_text("active")
        await expect(page.get_by_role("button", name="Pause")).to_be_focused()
        assert await console.axe(ALL_RULES) == []
        await console.open("destinations")
        await expect(page.locator("main")).to_contain_text(f"{', '.join(types[:3])} and 2 more")
        await page.get_by_role("link", name="Mine").click()
        await page.get_by_role("button", name="Edit").click()
        await page.get_by_role("textbox", name="Settings").fill('{"syncPersons": true}')
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("region", name="Settings")).not_to_contain_text("eventNames")
        await expect(page.get_by_role("region", name="Settings")).to_contain_text("syncPersons")
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.locator("#status")).to_have_text("The destination is deleted.")
        await expect(page.get_by_role("heading", name="Destinations")).to_be_focused()
        await expect(page.locator("main")).not_to_contain_text("Mine")


async def test_a_double_click_saves_once_and_a_dialog_closes_with_its_view(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("destinations/new")
        await page.get_by_label("Event types").fill("email.sent")
        methods: list[str] = []
        pressed_twice = asyncio.Event()

        async def hold(route: Route) -> None:
            methods.append(route.request.method)
            await pressed_twice.wait()
            await route.continue_()

        await page.route("**/v1/admin/webhooks", hold)
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Save").click()
        pressed_twice.set()
        await expect(page.locator("#status")).to_have_text("Saved.")
        await page.unroute_all()
        assert methods == ["POST"]
        await page.get_by_label("Status").select_option("failed")
        await page.get_by_role("button", name="Show").click()
        # Only a view that was rendered for this filter has the attribute.
        await expect(page.locator("option[value=failed][selected]")).to_be_attached()
        await page.get_by_role("button", name="Delete").click()
        await page.go_back()
        await expect(page.locator("option[value=''][selected]")).to_be_attached()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.get_by_role("button", name="Delete").click()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Delete")).to_be_focused()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("heading", name="Destinations")).to_be_focused()


async def test_posthog_is_connected_in_the_browser_and_its_callback_is_accepted_once(
    browsing: Browsing,
) -> None:
    async with (
        browsing.console(browsing.admin_key) as console,
        browsing.console(browsing.admin_key) as other,
    ):
        page = console.page
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        await console.open("connect")
        await page.get_by_role("button", name="Connect PostHog").click()
        await expect(page.get_by_role("heading", name="Connected")).to_be_visible()
        assert page.url == f"{console.url}/console#/connect"
        await expect(page.locator("main")).to_contain_text("The destination was created")
        await console.screenshot("connect-done")
        assert console.errors == []
        (callback,) = [url for url in requests if "/console/connect/callback" in url]
        assert "code=" in callback
        for secret in ("pha_", "phr_", parse_qs(urlsplit(callback).query)["state"][0]):
            assert secret not in await page.content()
        await other.page.goto(callback)
        await expect(other.page.get_by_role("alert")).to_contain_text("was used before")
        await page.get_by_role("button", name="Show the connection").click()
        await expect(page.get_by_role("button", name="Connect PostHog again")).to_be_visible()
        await page.get_by_role("button", name="Disconnect").click()
        await page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
        await expect(page.get_by_role("status").last).to_have_text("PostHog is disconnected.")
        await page.goto(f"{console.url}/console/connect/callback?error=access_denied&state=old")
        await expect(page.get_by_role("alert")).to_contain_text("Connect again.")
        await page.get_by_role("button", name="Back").click()
        await expect(page.get_by_role("button", name="Connect PostHog")).to_be_visible()


async def test_a_connection_of_unknown_state_is_shown_as_neither_present_nor_absent(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page

        async def without_credentials(route: Route) -> None:
            diagnosis = await (await route.fetch()).json()
            diagnosis["credential"] |= {"state": "unknown", "scopes": [], "expiresAt": None}
            diagnosis["destination"] |= {"state": "unknown"}
            await route.fulfill(json=diagnosis)

        async def unknown(route: Route) -> None:
            health = await (await route.fetch()).json()
            health["credentials"]["posthog"]["state"] = "unknown"
            await route.fulfill(json=health)

        await page.route("**/v1/admin/analytics/diagnosis", without_credentials)
        # The console renders the page again as soon as health reports a known state.
        await page.route("**/v1/health", unknown)
        await console.open("connect")
        main = page.locator("main")
        await expect(main).to_contain_text("Stateunknown")
        for term in ("Scopes", "Expires", "Delivers to"):
            await expect(page.get_by_role("term").filter(has_text=term)).to_have_count(0)
        await expect(page.get_by_role("button", name="Connect PostHog")).to_have_count(0)
        assert await console.axe(ALL_RULES) == []


async def test_duplicate_and_foreign_destinations_are_listed_with_a_remedy(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page

        def destination(name: str) -> dict[str, str]:
            dashboard = f"https://eu.posthog.com/project/1/{name}"
            return {
                "hogFunctionId": name,
                "webhookUrl": f"https://{name}.example/v1/webhooks/posthog",
                "dashboardUrl": dashboard,
            }

        async def with_others(route: Route) -> None:
            diagnosis = await (await route.fetch()).json()
            diagnosis["destination"] |= {
                "state": "live",
                "duplicates": [
                    destination("copy"),
                    {**destination("another-copy"), "dashboardUrl": "javascript:0"},
                ],
                "others": [destination("former")],
            }
            await route.fulfill(json=diagnosis)

        await console.open("connect")
        main = page.locator("main")
        await expect(main).not_to_contain_text("Further destinations")
        await expect(main).not_to_contain_text("other instances")
        await page.route("**/v1/admin/analytics/diagnosis", with_others)
        await console.open("")
        await console.open("connect")
        for words, names in (
            ("Disable or delete all but one", ["copy", "another-copy"]),
            ("disable its destination in PostHog, or adopt it", ["former"]),
        ):
            items = main.locator("p", has_text=words).locator("+ ul > li")
            await expect(items).to_have_count(len(names))
            for item, name in zip(await items.all(), names, strict=True):
                await expect(item).to_contain_text(f"https://{name}.example/v1/webhooks/posthog")
        links = main.locator("li").get_by_role("link")
        assert [await link.get_attribute("href") for link in await links.all()] == [
            "https://eu.posthog.com/project/1/copy",
            "https://eu.posthog.com/project/1/former",
        ]
        assert await console.axe(ALL_RULES) == []


async def test_the_credential_is_shown_while_the_provisioner_is_unavailable(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        is_back = False

        async def unavailable(route: Route) -> None:
            if is_back:
                await route.continue_()
                return
            body = {"error": "the provisioner did not answer", "code": "unavailable"}
            await route.fulfill(status=503, json=body)

        async def needs_reconnect(route: Route) -> None:
            health = await (await route.fetch()).json()
            health["credentials"]["posthog"]["state"] = "needs_reconnect"
            await route.fulfill(json=health)

        await page.route("**/v1/admin/analytics/diagnosis", unavailable)
        await page.route("**/v1/health", needs_reconnect)
        await console.open("connect")
        await expect(page.get_by_role("alert")).to_have_text("the provisioner did not answer")
        await expect(page.get_by_role("definition")).to_have_text("needs reconnect")
        assert await console.axe(ALL_RULES) == []
        is_back = True
        await expect(page.locator("main")).to_contain_text("Destination in PostHog")


async def test_one_of_several_projects_is_chosen_by_its_name(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page

        async def with_two_projects(route: Route) -> None:
            response = await route.fetch()
            body = await response.json() | {"scopedTeams": [4, 5]}
            await route.fulfill(response=response, json=body)

        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        await page.route("**/console/connect/finish", with_two_projects)
        await console.open("connect")
        await page.get_by_role("button", name="Connect PostHog").click()
        # The list comes from PostHog, where the grant covers one project.
        await expect(page.get_by_label("Project").locator("option")).to_have_text("Sandbox (4242)")
        assert await console.axe(ALL_RULES) == []
        await page.get_by_role("button", name="Set up the destination").click()
        await expect(page.get_by_role("status").first).to_contain_text("The destination was")
        assert any("projectId=4242" in url for url in requests)


async def test_an_ended_session_is_reported_once_and_shows_no_data_any_more(
    browsing: Browsing,
) -> None:
    def cookie(key: str, age: int) -> str:
        return sessions.seal(hashlib.sha256(key.encode()).digest(), int(time.time()) - age)

    replaced_key_cookie = cookie("the key of yesterday", 60)
    expired_cookie = cookie(browsing.admin_key, sessions.SECONDS + 60)
    async with browsing.console(browsing.admin_key, fresh=True) as console:
        page, context = console.page, console.page.context
        requests: list[str] = []
        ended: list[str] = []
        refused: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("requestfinished", lambda request: ended.append(request.url))
        page.on("requestfailed", lambda request: ended.append(request.url))
        page.on(
            "response",
            lambda response: refused.append(response.url) if response.status == 401 else None,
        )
        (valid,) = await context.cookies()

        async def set_cookie(value: str) -> None:
            changed: Any = {"name": valid["name"], "url": console.url, "value": value}
            await context.add_cookies([changed])

        await page.clock.install()
        await console.open("contacts?key=ada")
        await expect(page.locator("main")).to_contain_text("ada@example.com")

        # A response that arrives later would renew the cookie.
        await eventually(lambda: len(ended) == len(requests))
        await set_cookie(replaced_key_cookie)
        await page.get_by_role("link", name="Events").click()
        await expect(page.get_by_label("Key")).to_be_visible()
        await expect(page.get_by_role("alert").first).to_contain_text("session has ended")
        await expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
        assert "ada@example.com" not in await page.content()
        requests.clear()
        # Every poll of the page would send a request within these two minutes.
        await page.clock.run_for(120_000)
        assert requests == []
        await page.get_by_role("link", name="Contacts").click()
        await expect(page.get_by_role("heading", name="Contacts")).to_be_visible()
        await expect(page.get_by_text("session has ended")).to_have_count(0)
        # The overview needs no key: it continues, and keeps the message that the session has ended.
        await set_cookie(valid["value"])
        await console.open("")
        await page.reload()
        await expect(page.get_by_role("region", name="Capabilities")).to_be_visible()
        refused.clear()

        async def is_refused() -> bool:
            await set_cookie(expired_cookie)
            await page.clock.run_for(20_000)
            return bool(refused)

        await eventually(is_refused)
        await expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
        await page.clock.run_for(60_000)
        await expect(page.get_by_role("status")).to_contain_text("Hogsend is")
        await expect(page.get_by_role("alert")).to_contain_text("session has ended")


async def test_a_form_keeps_its_input_when_its_session_ended_and_the_operator_signs_in_again(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key, fresh=True) as console:
        page = console.page
        await console.open("destinations/new")
        await page.get_by_label("Description").fill("Kept")
        await page.get_by_label("Event types").fill("email.sent")
        await page.context.clear_cookies()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_label("Key").fill(browsing.admin_key)
        assert await page.get_by_label("Description").count() == 0
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Description")).to_have_value("Kept")
        await expect(page.get_by_role("alert")).to_have_text([""])
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("main")).to_contain_text("email.sent")
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.locator("#status")).to_have_text("The destination is deleted.")
        await console.open("destinations/new")
        await expect(page.get_by_label("Description")).to_have_value("")


async def test_a_view_that_failed_is_shown_as_soon_as_its_service_responds(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        requests: list[str] = []
        is_back = False
        is_truncated = False

        async def unavailable(route: Route) -> None:
            nonlocal is_truncated
            requests.append(route.request.url)
            if is_back and not is_truncated:
                is_truncated = True
                await route.fulfill(content_type="application/json", body='{"conta')
            elif not is_back:
                body = {"error": "the ingest service did not answer", "code": "unavailable"}
                await route.fulfill(status=503, json=body)
            else:
                await route.continue_()

        await page.route("**/v1/admin/contacts*", unavailable)
        await page.clock.install()
        await console.open("contacts")
        alert = await page.get_by_role("alert").element_handle()
        assert alert is not None
        assert await alert.inner_text() == "the ingest service did not answer"
        assert await console.axe(ALL_RULES) == []

        async def is_requested_again() -> bool:
            await page.clock.run_for(6_000)
            return len(requests) > 2

        await eventually(is_requested_again, 30)
        # A screen reader would read a new alert aloud again.
        assert await alert.evaluate("element => element.isConnected")
        is_back = True

        async def is_shown() -> bool:
            await page.clock.run_for(6_000)
            return await page.get_by_role("region", name="Contacts").is_visible()

        await eventually(is_shown, 30)


async def test_the_overview_shows_no_earlier_values_of_a_service_that_is_down(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        # The clock of a browser may be wrong.
        await page.clock.install(time=time.time() + 3600)

        async def measured(route: Route) -> None:
            response = await route.fetch()
            activity = await response.json()
            activity["latest"] |= {"deadLetters": 0, "stored": 1, "webhooks": 1, "refused": 0}
            await route.fulfill(response=response, json=activity)

        await page.route("**/v1/admin/activity", measured)
        await console.open()
        ingest = page.locator("#loop li").nth(3)
        await expect(ingest).to_contain_text("up")
        await expect(ingest).not_to_contain_text("Dead lettersunknown")

        async def without_ingest(route: Route) -> None:
            health = await (await route.fetch()).json()
            health["services"]["ingest"] = {"status": "down"}
            health["components"]["worker"]["status"] = "down"
            health["services"]["gateway"] |= {"workers": 4, "workersUp": 3}
            await route.fulfill(json=health)

        await page.route("**/v1/health", without_ingest)
        await expect(ingest).to_contain_text("down")
        await expect(ingest).to_contain_text("Dead lettersunknown")
        await expect(page.locator("#loop li").nth(4)).to_contain_text("Storesunknown")
        await expect(page.locator("#loop li").nth(1)).not_to_contain_text("unknown")
        services = page.get_by_role("region", name="Services")
        await expect(services.get_by_role("row", name="gateway")).to_contain_text(
            "up, 3 of 4 workers"
        )


async def test_the_overview_shows_every_state_as_unknown_while_the_gateway_does_not_respond(
    browsing: Browsing,
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open()
        await expect(page.locator("#loop li.up").first).to_be_visible()
        for path in ("health", "admin/activity"):
            await page.route(f"**/v1/{path}", lambda route: route.abort())
        await expect(page.locator("main")).to_contain_text("State unknown.")
        await expect(page.locator("#loop li.unknown")).to_have_count(6)
        await expect(page.locator("#todo")).to_contain_text("The gateway does not answer")
        await expect(page.locator("#loop li").nth(3)).to_contain_text("Announcesunknown")
        await expect(page.get_by_role("region", name="Services")).to_have_count(0)
        await page.unroute_all()
        await expect(page.locator("#loop li.up").first).to_be_visible()
        await expect(page.get_by_role("region", name="Services")).to_be_visible()


FAKE_EVENT_SOURCE = """
window.sources = [];
window.EventSource = class extends EventTarget {
  static CLOSED = 2;
  constructor(url) { super(); window.sources.push(this); }
  close() { this.readyState = 2; }
};
"""


async def test_the_live_stream_is_opened_again_when_no_pulse_arrives(browsing: Browsing) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await page.add_init_script(FAKE_EVENT_SOURCE)
        await page.clock.install()
        await console.open("events/live")
        await page.evaluate("sources[0].dispatchEvent(new Event('open'))")
        await expect(page.get_by_role("status")).to_have_text("Watching.")
        for _ in range(3):
            await page.clock.run_for(30_000)
            await page.evaluate("sources[0].dispatchEvent(new MessageEvent('pulse'))")
        assert await page.evaluate("sources.length") == 1
        await page.evaluate("sources[0].dispatchEvent(new MessageEvent('bus', {data: 'down'}))")
        await expect(page.get_by_role("status")).to_contain_text("NATS cannot be reached")
        await page.clock.run_for(60_000)
        assert await page.evaluate("sources.map((source) => source.readyState)") == [2, None]
        await expect(page.get_by_role("status")).to_contain_text("reconnecting")


@pytest.mark.parametrize(("component", "name"), [("worker", "Ingest"), ("database", "PostgreSQL")])
async def test_the_live_view_names_the_component_that_does_not_respond(
    browsing: Browsing, component: str, name: str
) -> None:
    async with browsing.console(browsing.admin_key) as console:
        page = console.page
        await console.open("events/live")
        await expect(page.get_by_role("status")).to_have_text("Watching.")

        async def without(route: Route) -> None:
            health = await (await route.fetch()).json()
            health["components"][component]["status"] = "down"
            await route.fulfill(json=health)

        await page.route("**/v1/health", without)
        await expect(page.get_by_role("status")).to_contain_text(f"{name} does not answer")
        await page.unroute_all(behavior="wait")
        await expect(page.get_by_role("status")).to_have_text("Watching.")
        assert console.errors == []


async def test_a_stopping_gateway_closes_its_live_streams(browsing: Browsing) -> None:
    url = f"{browsing.stack.summary['gateway']}/console/live"
    async with (
        httpx.AsyncClient(timeout=30) as http,
        http.stream("GET", url, headers=browsing.stack.admin) as response,
    ):
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"retry: 1000\n\n"
        browsing.stack.child("gateway").terminate()
        # A connection that is broken off would raise an error here.
        assert [chunk async for chunk in chunks if chunk.startswith(b"data")] == []

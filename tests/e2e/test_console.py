"""The console in a real browser, over a stack with what an operator may find in one.

With `SCREENSHOTS` set to a directory, the pages are drawn there, as docs/console.md shows some.
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
CANNOT = (
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
        not os.environ.get("CI") and (CHROMIUM is None or not AXE.exists()), reason=CANNOT
    ),
    pytest.mark.xdist_group("console"),
]


@dataclass
class Console:
    """A page of the console, and what the browser complained about in it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    async def open(self, view: str = "") -> None:
        """Go to a view, and wait until it is there."""
        await self.page.goto(f"{self.url}/console#/{view}")
        await self.page.wait_for_selector("main:not([aria-busy]) > h1")

    async def sign_in(self, key: str) -> None:
        """Sign in as somebody does who has no mouse."""
        await self.open("audit")
        await self.page.get_by_label("Key").fill(key)
        await self.page.keyboard.press("Enter")
        await expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        await expect(self.page.get_by_label("Key")).to_have_count(0)

    async def axe(self, rules: Sequence[str]) -> list[str]:
        """What axe-core finds wrong with the page as it is."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text())
        found: Any = await self.page.evaluate(f"axe.run({{runOnly: {list(rules)}}})")
        return [
            f"{one['id']}: {node['html']} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    async def draw(self, name: str) -> None:
        """Keep a picture of the page, where that is wanted."""
        if directory := os.environ.get("SCREENSHOTS"):
            await self.page.screenshot(path=Path(directory) / f"{name}.png")


@dataclass
class Loop:
    """The stack, and the browser."""

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
        mine = context is None or fresh
        if context is None or fresh:
            context = await self.browser.new_context()
        page = await context.new_page()
        console = Console(page, self.stack.summary["gateway"])
        page.on("pageerror", lambda error: console.complaints.append(str(error)))
        page.on(
            "console",
            lambda one: console.complaints.append(one.text) if one.type == "error" else None,
        )
        page.on("dialog", lambda dialog: console.complaints.append(f"dialog {dialog.message}"))
        try:
            if key is not None and mine:
                await console.sign_in(key)
                # Chromium tells of every answer of 400 or more.
                console.complaints.clear()
                if not fresh:
                    self.sessions[key] = context
            yield console
        finally:
            await page.close()
            if context not in self.sessions.values():
                await context.close()


async def seed(stack: Up) -> None:
    """Leave events, people, a merge and dead letters behind."""
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
        answer = await stack.http.post("/v1/webhooks/posthog", json=body)
        assert answer.is_success, answer.text
        # One after the other: what becomes one person within a batch leaves no merge to undo.
        await eventually(partial(_stores, stack, number + 1))
    client = await nats.connect(stack.app_url, inbox_prefix="_INBOX_app")
    for number in range(3):
        body_of_nothing = b'{"data":{"userId":"u_%d"}}' % number
        await client.jetstream(timeout=PATIENCE_SECONDS).publish(
            "hogsend.engagement.email.burnt", body_of_nothing
        )
    await client.close()

    async def is_there() -> bool:
        letters = await stack.http.get("/v1/admin/deadletters", headers=stack.admin)
        return await stack.stored() == 5 and letters.json()["total"] == 3

    await eventually(is_there, 60)


async def _stores(stack: Up, count: int) -> bool:
    return await stack.stored() == count


@pytest.fixture(scope="module")
async def loop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Loop]:
    assert CHROMIUM is not None, CANNOT
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
        # Beside three other workers a page may take its time.
        expect.set_options(timeout=30_000)
        yield Loop(stack, browser)
        expect.set_options(timeout=None)
        await browser.close()


async def test_a_wrong_key_is_told_and_a_right_one_opens_what_was_asked_for(loop: Loop) -> None:
    async with loop.console() as console:
        await console.open("deadletters")
        page = console.page
        await page.get_by_label("Key").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("This key is not known")
        assert await console.axe(ALL_RULES) == []
        # As it is copied with what stands around it.
        await page.get_by_label("Key").fill(f" {loop.admin_key}\t")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Dead letters")).to_be_focused()
        assert loop.admin_key not in await page.content()
        (cookie,) = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        await page.get_by_role("banner").get_by_role("link", name="Sign in").click()
        await expect(page.get_by_label("Key")).to_be_visible()


async def test_every_view_can_be_used_at_every_size_in_light_and_dark(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
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
                await console.draw(f"{name}-{width}")
            assert "`" not in await page.locator("main").inner_text(), view
            assert await console.axe(ALL_RULES) == [], view
            await page.emulate_media(color_scheme="dark")
            assert await console.axe(CONTRAST) == [], view
            await console.draw(f"{name}-dark")
        assert console.complaints == []


async def test_the_overview_draws_what_is_known_and_says_unknown_for_the_rest(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        asked: set[str] = set()

        async def is_measured() -> bool:
            found = await loop.stack.http.get("/v1/admin/activity", headers=loop.stack.admin)
            measured = found.json()
            if measured["at"] not in asked:
                # What was stored before ingest answered in time for once is in no rate.
                asked.add(measured["at"])
                event = {"event": "measured", "userId": "grace"}
                await loop.stack.http.post("/v1/events", json=event, headers=loop.stack.admin)
            return bool(max(filter(None, measured["series"]["stored"]), default=0))

        await eventually(is_measured, 60)
        await console.open()
        steps = page.get_by_role("region", name="Events")
        await expect(steps.get_by_role("row", name="Stored")).not_to_contain_text("unknown")
        await expect(page.locator("#loop li:nth-child(4)")).to_contain_text("0/s")
        assert len(await page.locator("figure .line-1").first.get_attribute("d") or "") > 0

        async def without_ingest(route: Route) -> None:
            answer = await route.fetch()
            found = await answer.json()
            found["latest"] |= {"stored": None, "announced": None, "waiting": None, "refused": 2}
            # On a slow machine what was really measured may have gaps, too.
            found["series"] |= {name: [1, 1, 1] for name in ("webhooks", "announced")}
            found["series"]["stored"] = [1, None, 1]
            await route.fulfill(response=answer, json=found)

        await page.route("**/v1/admin/activity", without_ingest)
        await console.open("audit")
        await console.open()
        await expect(page.locator("#loop li:nth-child(5)")).to_contain_text("Storesunknown")
        await expect(page.locator("#todo")).to_contain_text("Webhooks are refused")
        await expect(page.locator("#todo")).to_contain_text("3 dead letters wait")
        line = page.get_by_role("region", name="Events").locator("xpath=..").locator("svg path")
        # What is not known is a gap: the line begins again.
        assert [(await one.get_attribute("d") or "").count("M") for one in await line.all()].count(
            2
        ) == 1
        assert console.complaints == []


async def test_the_overview_tells_of_a_destination_that_delivers_no_more(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        state = "present"

        async def deleted(route: Route) -> None:
            answer = await route.fetch()
            found = await answer.json()
            for one in found["capabilities"]:
                if one["name"] == "eventsIn":
                    one |= {"state": "off", "reason": "It is gone.", "remediation": "Run `x`."}
            await route.fulfill(response=answer, json=found)

        async def connected(route: Route) -> None:
            found = await (await route.fetch()).json()
            found["credentials"]["posthog"] = {"state": state}
            await route.fulfill(json=found)

        await page.route("**/v1/admin/capabilities", deleted)
        await page.route("**/v1/health", connected)
        await console.open()
        await expect(page.locator("#todo")).to_contain_text("It is gone. Run x.")
        await expect(page.locator("main")).to_contain_text("All services work, but receiving")
        # What was never connected is no fault.
        state = "absent"
        await expect(page.locator("#todo")).not_to_contain_text("It is gone.")


async def test_what_others_wrote_is_text_and_cut(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
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
        sent = await loop.stack.http.post("/v1/events", json=event, headers=loop.stack.admin)
        assert sent.is_success, sent.text
        await expect(page.locator("tbody tr")).to_contain_text("<img src=x onerror=alert(1)>")
        assert await page.locator("img").count() == 0
        assert console.complaints == []


async def test_an_event_is_found_by_its_id_and_leads_to_its_contact(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        await console.open("events")
        await page.get_by_label("Event id").fill("e-0")
        await page.keyboard.press("Enter")
        found = page.get_by_role("link", name="signed_up")
        await expect(found).to_have_count(1)
        await found.click()
        shown = page.get_by_role("region", name="Properties")
        await expect(shown).to_contain_text(f'"long": {LONG_NUMBER}')
        # What joins an emoji or the letters of a word is a part of what is seen.
        await expect(shown).to_contain_text(f"zero\\u200bwidth\\u2060\\u00ad\\u{{e0041}} {JOINED}")
        way = page.locator(".way")
        await expect(way).to_contain_text("of the stream EVENTS")
        await expect(way).to_contain_text("No destination has it")
        assert await console.axe(ALL_RULES) == []
        await page.get_by_role("link", name="ada").click()
        await expect(page.get_by_role("region", name="Known by")).to_contain_text("ada@example.com")


async def test_back_leads_to_where_one_was_on_the_page(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        await page.set_viewport_size({"width": 360, "height": 300})
        await console.open("events")
        await page.get_by_role("link", name="signed_up").last.click()
        await expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
        assert await page.evaluate("scrollY") == 0
        await page.go_back()
        await expect(page.get_by_role("link", name="signed_up").last).to_be_in_viewport()
        assert await page.evaluate("scrollY") > 0


async def test_times_are_in_the_browsers_zone_or_in_utc(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
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


async def test_an_address_that_is_wrong_is_told_and_where_one_is_can_be_asked_anew(
    loop: Loop,
) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        for view in ("constructor", "__proto__"):
            await console.open(view)
            await expect(page.locator("main")).to_contain_text("does not exist")
        await console.open("events?id=never-seen")
        await expect(page.locator("main")).to_contain_text("It may still wait to be stored")
        await console.open("deadletters/%")
        await expect(page.get_by_role("alert")).to_have_text("Not Found")
        await console.open("contacts?key=ada")
        assert [one for one in console.complaints if "Failed to load" not in one] == []
        for control in (
            page.get_by_role("link", name="Contacts", exact=True),
            page.get_by_role("button", name="Show", exact=True),
        ):
            await console.open("contacts")
            async with page.expect_response("**/v1/admin/contacts*"):
                await control.click()


async def test_a_search_that_has_not_ended_says_how_far_it_looked_and_goes_on(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        found = {"events": [], "total": 0, "limit": 50, "offset": 0, "totalEstimated": True}
        searched = {"searchedTo": "2026-03-01T12:00:00Z", "nextBefore": "next"}
        parts = 0

        async def unfinished(route: Route) -> None:
            nonlocal parts
            parts += 1
            if parts == 16:
                await route.continue_(url=route.request.url.partition("&before")[0])
            else:
                await route.fulfill(json=found | searched)

        await page.route("**/v1/admin/events?*", unfinished)
        await console.open("events?event=signed_up&userId=ada")
        await expect(page.locator("main")).to_contain_text("No event matches back to")
        assert parts == 10
        assert await console.axe(ALL_RULES) == []
        await page.get_by_role("link", name="Search further back").click()
        await expect(page.get_by_role("region", name="Events")).to_contain_text("signed_up")


async def test_a_page_that_is_loaded_in_the_background_watches_once_it_is_seen(
    loop: Loop,
) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.add_init_script(
            "Object.defineProperty(document, 'hidden', {get: () => !window.isSeen})"
        )
        await page.goto("about:blank")
        await console.open("events/live")
        await expect(page.get_by_role("status")).to_have_text("Loading…")
        assert not [url for url in asked if "/console/live?" in url]
        await page.evaluate("isSeen = true; document.dispatchEvent(new Event('visibilitychange'))")
        await expect(page.get_by_role("status")).to_have_text("Watching.")


async def test_events_are_watched_as_they_arrive_until_somebody_pauses(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        await console.open("events/live?event=watched")
        await expect(page.get_by_role("status")).to_have_text("Watching.")
        rows = page.get_by_role("region", name="Events as they arrive").locator("tbody tr")

        async def send(*names: str) -> None:
            for name in names:
                event = {"event": name, "userId": "grace"}
                answer = await loop.stack.http.post(
                    "/v1/events", json=event, headers=loop.stack.admin
                )
                assert answer.is_success

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
        # One who is at a row would lose it.
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
        assert console.complaints == []


async def test_a_read_key_sees_and_is_shown_nothing_to_change(loop: Loop) -> None:
    async with loop.console(READ_KEY) as console:
        page = console.page
        await console.open("audit")
        await expect(page.get_by_role("alert")).to_contain_text("needs an admin key")
        # An event's page is reached by a link.
        seen = {*VIEWS, "deadletters/1", "destinations/new", "events/live"} - {"audit", "connect"}
        for view in sorted(seen):
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


async def test_a_merge_is_undone(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
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


async def test_dead_letters_are_replayed_and_purged(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
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

        async def are_back() -> bool:
            # Nobody understands them now either.
            await console.open("")
            await console.open("deadletters")
            return await page.get_by_role("button", name="Purge all 2").count() == 1

        await eventually(are_back, 60)
        await page.get_by_role("button", name="Purge all 2").click()
        await page.get_by_role("dialog").get_by_role("button", name="Purge").click()
        await expect(page.locator(".outcome")).to_contain_text("2 dead letters purged.")
        await page.get_by_role("button", name="Refresh").click()
        await expect(page.locator("main")).to_contain_text("No dead letters")
        await console.open("audit?actor=console%3Afull-admin")
        await expect(page.get_by_role("region", name="Audit trail")).to_contain_text("purge")


async def test_a_destination_is_made_paused_and_deleted(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
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


async def test_what_is_asked_for_twice_is_done_once_and_a_question_ends_with_its_view(
    loop: Loop,
) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        await console.open("destinations/new")
        await page.get_by_label("Event types").fill("email.sent")
        made: list[str] = []
        pressed_twice = asyncio.Event()

        async def hold(route: Route) -> None:
            made.append(route.request.method)
            await pressed_twice.wait()
            await route.continue_()

        await page.route("**/v1/admin/webhooks", hold)
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Save").click()
        pressed_twice.set()
        await expect(page.locator("#status")).to_have_text("Saved.")
        await page.unroute_all()
        assert made == ["POST"]
        await page.get_by_label("Status").select_option("failed")
        await page.get_by_role("button", name="Show").click()
        # Only what was drawn with it has the attribute.
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


async def test_posthog_is_connected_in_the_browser_and_its_answer_counts_once(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console, loop.console(loop.admin_key) as other:
        page = console.page
        answers: list[str] = []
        page.on("request", lambda asked: answers.append(asked.url))
        await console.open("connect")
        await page.get_by_role("button", name="Connect PostHog").click()
        await expect(page.get_by_role("heading", name="Connected")).to_be_visible()
        assert page.url == f"{console.url}/console#/connect"
        await expect(page.locator("main")).to_contain_text("The destination was created")
        await console.draw("connect-done")
        assert console.complaints == []
        (answer,) = [url for url in answers if "/console/connect/callback" in url]
        assert "code=" in answer
        for secret in ("pha_", "phr_", parse_qs(urlsplit(answer).query)["state"][0]):
            assert secret not in await page.content()
        await other.page.goto(answer)
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


async def test_a_connection_that_is_unknown_is_neither_there_nor_absent(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page

        async def without_credentials(route: Route) -> None:
            found = await (await route.fetch()).json()
            found["credential"] |= {"state": "unknown", "scopes": [], "expiresAt": None}
            found["destination"] |= {"state": "unknown"}
            await route.fulfill(json=found)

        async def unknown(route: Route) -> None:
            health = await (await route.fetch()).json()
            health["credentials"]["posthog"]["state"] = "unknown"
            await route.fulfill(json=health)

        await page.route("**/v1/admin/analytics/diagnosis", without_credentials)
        # One that is known again has the page drawn anew.
        await page.route("**/v1/health", unknown)
        await console.open("connect")
        main = page.locator("main")
        await expect(main).to_contain_text("Stateunknown")
        for said in ("Scopes", "Expires", "Delivers to"):
            await expect(page.get_by_role("term").filter(has_text=said)).to_have_count(0)
        await expect(page.get_by_role("button", name="Connect PostHog")).to_have_count(0)
        assert await console.axe(ALL_RULES) == []


async def test_destinations_beside_ours_are_told_with_what_to_do(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page

        def one(name: str) -> dict[str, str]:
            dashboard = f"https://eu.posthog.com/project/1/{name}"
            return {
                "hogFunctionId": name,
                "webhookUrl": f"https://{name}.example/v1/webhooks/posthog",
                "dashboardUrl": dashboard,
            }

        async def with_others(route: Route) -> None:
            found = await (await route.fetch()).json()
            found["destination"] |= {
                "state": "live",
                "duplicates": [
                    one("copy"),
                    {**one("another-copy"), "dashboardUrl": "javascript:0"},
                ],
                "others": [one("former")],
            }
            await route.fulfill(json=found)

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


async def test_a_credential_is_shown_although_nobody_looks_at_posthog(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        is_back = False

        async def unavailable(route: Route) -> None:
            if is_back:
                await route.continue_()
                return
            body = {"error": "the provisioner did not answer", "code": "unavailable"}
            await route.fulfill(status=503, json=body)

        async def present(route: Route) -> None:
            found = await (await route.fetch()).json()
            found["credentials"]["posthog"]["state"] = "needs_reconnect"
            await route.fulfill(json=found)

        await page.route("**/v1/admin/analytics/diagnosis", unavailable)
        await page.route("**/v1/health", present)
        await console.open("connect")
        await expect(page.get_by_role("alert")).to_have_text("the provisioner did not answer")
        await expect(page.get_by_role("definition")).to_have_text("needs reconnect")
        assert await console.axe(ALL_RULES) == []
        is_back = True
        await expect(page.locator("main")).to_contain_text("Destination in PostHog")


async def test_one_of_several_projects_is_chosen_by_its_name(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page

        async def of_two(route: Route) -> None:
            answer = await route.fetch()
            await route.fulfill(response=answer, json=await answer.json() | {"scopedTeams": [4, 5]})

        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        await page.route("**/console/connect/finish", of_two)
        await console.open("connect")
        await page.get_by_role("button", name="Connect PostHog").click()
        # The grant's one project, as the provisioner and PostHog name it.
        await expect(page.get_by_label("Project").locator("option")).to_have_text("Sandbox (4242)")
        assert await console.axe(ALL_RULES) == []
        await page.get_by_role("button", name="Set up the destination").click()
        await expect(page.get_by_role("status").first).to_contain_text("The destination was")
        assert any("projectId=4242" in url for url in asked)


async def test_a_session_that_is_over_is_told_once_and_shows_nothing_more(loop: Loop) -> None:
    def cookie(key: str, age: int) -> str:
        return sessions.seal(hashlib.sha256(key.encode()).digest(), int(time.time()) - age)

    of_a_replaced_key = cookie("the key of yesterday", 60)
    not_used_for_a_day = cookie(loop.admin_key, sessions.SECONDS + 60)
    async with loop.console(loop.admin_key, fresh=True) as console:
        page, context = console.page, console.page.context
        asked: list[str] = []
        ended: list[str] = []
        refused: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        page.on("requestfinished", lambda one: ended.append(one.url))
        page.on("requestfailed", lambda one: ended.append(one.url))
        page.on("response", lambda one: refused.append(one.url) if one.status == 401 else None)
        (valid,) = await context.cookies()

        async def have(value: str) -> None:
            given: Any = {"name": valid["name"], "url": console.url, "value": value}
            await context.add_cookies([given])

        await page.clock.install()
        await console.open("contacts?key=ada")
        await expect(page.locator("main")).to_contain_text("ada@example.com")

        # An answer that is still on its way would renew the cookie.
        await eventually(lambda: len(ended) == len(asked))
        await have(of_a_replaced_key)
        await page.get_by_role("link", name="Events").click()
        await expect(page.get_by_label("Key")).to_be_visible()
        await expect(page.get_by_role("alert").first).to_contain_text("session has ended")
        await expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
        assert "ada@example.com" not in await page.content()
        asked.clear()
        # What asks again by the clock would do so now.
        await page.clock.run_for(120_000)
        assert asked == []
        await page.get_by_role("link", name="Contacts").click()
        await expect(page.get_by_role("heading", name="Contacts")).to_be_visible()
        await expect(page.get_by_text("session has ended")).to_have_count(0)
        # The overview needs no key: it goes on, and leaves it there that the session ended.
        await have(valid["value"])
        await console.open("")
        await page.reload()
        await expect(page.get_by_role("region", name="Capabilities")).to_be_visible()
        refused.clear()

        async def is_refused() -> bool:
            await have(not_used_for_a_day)
            await page.clock.run_for(20_000)
            return bool(refused)

        await eventually(is_refused)
        await expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
        await page.clock.run_for(60_000)
        await expect(page.get_by_role("status")).to_contain_text("Hogsend is")
        await expect(page.get_by_role("alert")).to_contain_text("session has ended")


async def test_what_is_being_written_is_there_again_after_signing_in_anew(loop: Loop) -> None:
    async with loop.console(loop.admin_key, fresh=True) as console:
        page = console.page
        await console.open("destinations/new")
        await page.get_by_label("Description").fill("Kept")
        await page.get_by_label("Event types").fill("email.sent")
        await page.context.clear_cookies()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_label("Key").fill(loop.admin_key)
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


async def test_a_view_that_failed_is_shown_as_soon_as_somebody_answers_for_it(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        asked: list[str] = []
        is_back = False

        has_ended_early = False

        async def unavailable(route: Route) -> None:
            nonlocal has_ended_early
            asked.append(route.request.url)
            if is_back and not has_ended_early:
                has_ended_early = True
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

        async def is_asked_again() -> bool:
            await page.clock.run_for(6_000)
            return len(asked) > 2

        await eventually(is_asked_again, 30)
        # A screen reader would say it again.
        assert await alert.evaluate("element => element.isConnected")
        is_back = True

        async def is_shown() -> bool:
            await page.clock.run_for(6_000)
            return await page.get_by_role("region", name="Contacts").is_visible()

        await eventually(is_shown, 30)


async def test_an_overview_shows_nothing_that_a_silent_service_told_before(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        # The clock of a browser may be wrong.
        await page.clock.install(time=time.time() + 3600)

        async def measured(route: Route) -> None:
            answer = await route.fetch()
            found = await answer.json()
            found["latest"] |= {"deadLetters": 0, "stored": 1, "webhooks": 1, "refused": 0}
            await route.fulfill(response=answer, json=found)

        await page.route("**/v1/admin/activity", measured)
        await console.open()
        ingest = page.locator("#loop li").nth(3)
        await expect(ingest).to_contain_text("up")
        await expect(ingest).not_to_contain_text("Dead lettersunknown")

        async def without_ingest(route: Route) -> None:
            found = await (await route.fetch()).json()
            found["services"]["ingest"] = {"status": "down"}
            found["components"]["worker"]["status"] = "down"
            found["services"]["gateway"] |= {"workers": 4, "workersUp": 3}
            await route.fulfill(json=found)

        await page.route("**/v1/health", without_ingest)
        await expect(ingest).to_contain_text("down")
        await expect(ingest).to_contain_text("Dead lettersunknown")
        await expect(page.locator("#loop li").nth(4)).to_contain_text("Storesunknown")
        await expect(page.locator("#loop li").nth(1)).not_to_contain_text("unknown")
        services = page.get_by_role("region", name="Services")
        await expect(services.get_by_role("row", name="gateway")).to_contain_text(
            "up, 3 of 4 workers"
        )


async def test_an_overview_without_a_gateway_shows_nothing_as_known(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
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


SILENT = """
window.made = [];
window.EventSource = class extends EventTarget {
  static CLOSED = 2;
  constructor(url) { super(); window.made.push(this); }
  close() { this.readyState = 2; }
};
"""


async def test_a_stream_that_is_silent_is_opened_again(loop: Loop) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        await page.add_init_script(SILENT)
        await page.clock.install()
        await console.open("events/live")
        await page.evaluate("made[0].dispatchEvent(new Event('open'))")
        await expect(page.get_by_role("status")).to_have_text("Watching.")
        for _ in range(3):
            await page.clock.run_for(30_000)
            await page.evaluate("made[0].dispatchEvent(new MessageEvent('pulse'))")
        assert await page.evaluate("made.length") == 1
        await page.evaluate("made[0].dispatchEvent(new MessageEvent('bus', {data: 'down'}))")
        await expect(page.get_by_role("status")).to_contain_text("NATS cannot be reached")
        await page.clock.run_for(60_000)
        assert await page.evaluate("made.map((one) => one.readyState)") == [2, None]
        await expect(page.get_by_role("status")).to_contain_text("reconnecting")


@pytest.mark.parametrize(("part", "said"), [("worker", "Ingest"), ("database", "PostgreSQL")])
async def test_a_stream_says_why_nothing_is_announced(loop: Loop, part: str, said: str) -> None:
    async with loop.console(loop.admin_key) as console:
        page = console.page
        await console.open("events/live")
        await expect(page.get_by_role("status")).to_have_text("Watching.")

        async def without(route: Route) -> None:
            found = await (await route.fetch()).json()
            found["components"][part]["status"] = "down"
            await route.fulfill(json=found)

        await page.route("**/v1/health", without)
        await expect(page.get_by_role("status")).to_contain_text(f"{said} does not answer")
        await page.unroute_all(behavior="wait")
        await expect(page.get_by_role("status")).to_have_text("Watching.")
        assert console.complaints == []


async def test_a_gateway_that_stops_ends_its_streams(loop: Loop) -> None:
    url = f"{loop.stack.summary['gateway']}/console/live"
    async with (
        httpx.AsyncClient(timeout=30) as http,
        http.stream("GET", url, headers=loop.stack.admin) as answer,
    ):
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"retry: 1000\n\n"
        loop.stack.child("gateway").terminate()
        # A stream that is cut off raises.
        assert [piece async for piece in pieces if piece.startswith(b"data")] == []

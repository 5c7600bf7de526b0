"""The views of the console in a real browser: what they show, at every size and for every key."""

from __future__ import annotations

import re
from urllib.parse import quote

from playwright.async_api import Route, expect

from tests.e2e.browsing import (
    ALL_RULES,
    CONTRAST,
    HOSTILE,
    IN_BROWSER,
    JOINED,
    LONG_NUMBER,
    READ_KEY,
    SIZES,
    VIEWS,
    Browsing,
)
from tests.waiting import eventually

pytestmark = IN_BROWSER


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

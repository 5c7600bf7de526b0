"""The console while its session has ended, or a service, NATS or the gateway does not respond."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import httpx
import pytest
from playwright.async_api import Route, expect

from services.gateway import sessions
from tests.e2e.browsing import ALL_RULES, IN_BROWSER, Browsing
from tests.waiting import eventually

pytestmark = IN_BROWSER


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

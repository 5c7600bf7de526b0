"""What an operator changes in the console: merges, dead letters, destinations, the connection."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Route, expect

from tests.e2e.browsing import ALL_RULES, IN_BROWSER, Browsing
from tests.waiting import eventually

pytestmark = IN_BROWSER


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

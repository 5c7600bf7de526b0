"""The published posthog-js, in a page of another origin, and posthog-node, against the sandbox."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.integration.sandbox.driver import Driver, Receiver
from tests.integration.sandbox.test_consent_page import CHROMIUM, INSTALL_CHROMIUM, browser_page
from tests.node_tools import needs_node_tools
from tests.ports import free_port
from tests.waiting import eventually

TOOLS = Path(__file__).parents[2] / "sdk"
LIBRARY = TOOLS / "node_modules" / "posthog-js" / "dist" / "array.js"
HTML = b"<!doctype html><script src=/array.js></script><button id=press>Press</button>"
FLAGS: list[dict[str, Any]] = [
    {"key": "colour", "variant": "blue", "payload": {"hex": "#00f"}},
    {"key": "off", "enabled": False},
    {"key": "pros", "properties": [{"key": "plan", "value": ["pro"]}]},
]
START = """([url, key]) => new Promise((done) => posthog.init(key, {
    api_host: url, opt_out_useragent_filter: true, request_batching: false,
    loaded: () => posthog.onFeatureFlags(() => done()),
}))"""
IDENTIFY = """() => {
    posthog.identify("u_1", {email: "ada@example.com"});
    posthog.capture("signed_up", {plan: "pro"});
    return [posthog.getFeatureFlag("colour"), posthog.getFeatureFlagPayload("colour"),
        posthog.isFeatureEnabled("off")];
}"""

pytestmark = needs_node_tools(TOOLS)
in_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason=INSTALL_CHROMIUM
)


@asynccontextmanager
async def site() -> AsyncIterator[str]:
    """Serve a page with posthog-js on another origin than the sandbox."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        script = path.endswith(b".js")
        body = LIBRARY.read_bytes() if script else HTML
        kind = "text/javascript" if script else "text/html"
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield f"http://localhost:{port}/"
    finally:
        server.close()


def record_errors(page: Page) -> list[str]:
    """Collect the errors of a page from now on, such as requests that CORS does not allow."""
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda r: errors.append(f"{r.method} {r.url} {r.failure}"))
    return errors


async def event_names(posthog: Driver) -> list[str]:
    return [event["event"] for event in (await posthog.state())["events"]]


@in_chromium
async def test_a_page_of_another_origin_captures_and_reads_flags(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.http.put("/_sandbox/flags", json=FLAGS)
    identified = {"key": "$is_identified", "type": "event", "value": ["true"]}
    await posthog.create(url=hook.url, filters={"source": "events", "properties": [identified]})
    async with site() as url, browser_page() as page:
        errors = record_errors(page)
        await page.goto(url)
        await page.evaluate(START, [posthog.url, posthog.instance.options.project_key])
        assert await page.evaluate(IDENTIFY) == ["blue", {"hex": "#00f"}, False]
        await page.click("#press")

        async def are_captured() -> bool:
            return {"$pageview", "$identify", "signed_up", "$autocapture"} <= set(
                await event_names(posthog)
            )

        await eventually(are_captured)

        async def is_delivered() -> bool:
            return "signed_up" in [request.body["event"]["event"] for request in hook.received]

        await eventually(is_delivered)
        assert errors == []
    (person,) = (await posthog.state())["persons"]
    assert person["properties"]["email"] == "ada@example.com"
    assert len(person["distinct_ids"]) == 2


async def test_posthog_node_captures_and_evaluates_flags(posthog: Driver) -> None:
    await posthog.http.put("/_sandbox/flags", json=FLAGS)
    options = posthog.instance.options
    process = await asyncio.create_subprocess_exec(
        *("node", "check.mjs", posthog.url, options.project_key, options.flags_key),
        cwd=TOOLS,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    results = json.loads(output)
    assert results["remote"]["featureFlags"] == {"colour": "blue", "off": False, "pros": True}
    assert results["evaluated"] == {"colour": "blue", "off": False, "pros": True}
    assert results["payload"] == {"hex": "#00f"}
    assert {"signed_up", "paid", "$identify", "$create_alias"} <= set(await event_names(posthog))
    (person,) = (await posthog.state())["persons"]
    assert person["properties"]["email"] == "ada@example.com"

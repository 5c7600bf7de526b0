import asyncio

import httpx

from sandbox.app import serving
from sandbox.options import Options


async def main() -> None:
    async with serving(Options(port=8011, auto_consent=True)) as posthog:
        async with httpx.AsyncClient(base_url=posthog.options.url) as http:
            event = {"event": "signed_up", "distinct_id": "u_42"}
            await http.post("/capture/", json={"api_key": "phc_sandbox_project_key", **event})
        print([event.event for event in posthog.pipeline.events.values()], posthog.deliveries.all)
        posthog.clock.advance(3600)  # tokens expire, retries come due


asyncio.run(main())

import asyncio
import contextlib

import hogsend


async def welcome(client: hogsend.Client) -> None:
    async for event in client.events("signed_up", durable="welcome-mailer"):
        print(event.user_id, event.email, event.properties)


async def watch_credentials(client: hogsend.Client) -> None:
    async for change in client.credential_changes("posthog"):
        print(change.provider, change.change, change.version, change.scopes)


async def main() -> None:
    async with hogsend.connect() as client:  # NATS_URL from the environment
        await asyncio.gather(welcome(client), watch_credentials(client))


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())

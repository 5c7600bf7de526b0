import asyncio
import contextlib

import hogsend


async def main() -> None:
    async with hogsend.connect() as client:  # NATS_URL from the environment
        async for event in client.events("signed_up", durable="plan-mailer"):
            person = await client.persons.get(event.user_id)  # {} when PostHog cannot be read
            await client.persons.set(event.user_id, {"welcomed": True})
            email = {"userId": event.user_id, "to": event.email}
            await client.engagement.report("email.opened", email)
            print(event.user_id, "is on plan", person.get("plan"))


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())

import asyncio

import hogsend


async def main() -> None:
    async with hogsend.connect() as bus:  # NATS_URL from the environment
        person = await bus.persons.get("u_42")  # {} when PostHog cannot be read
        zone = await bus.timezone("u_42", default="Europe/Berlin")
        monday = hogsend.next_moment(zone.timezone, weekday="monday", hour=9)
        print(person.get("plan"), zone.source, monday)

        await bus.persons.set("u_42", {"plan": "pro"}, once={"first_seen_in": "mail"})
        await bus.capture("plan upgraded", "u_42", {"to": "pro"})
        if await bus.flags.get("new-mailer", "u_42"):
            await bus.engagement.report("email.opened", {"userId": "u_42", "to": "ada@example.com"})


asyncio.run(main())

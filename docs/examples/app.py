import asyncio

import hogsend


async def main() -> None:
    async with hogsend.connect() as client:  # NATS_URL from the environment
        person = await client.persons.get("u_42")  # {} when PostHog cannot be read
        zone = await client.timezone("u_42", default="Europe/Berlin")
        monday = hogsend.next_moment(zone.timezone, weekday="monday", hour=9)
        print(person.get("plan"), zone.source, monday)

        await client.persons.set("u_42", {"plan": "pro"}, once={"first_seen_in": "mail"})
        await client.capture("plan upgraded", "u_42", {"to": "pro"})
        if await client.flags.get("new-mailer", "u_42"):
            await client.engagement.report(
                "email.opened", {"userId": "u_42", "to": "ada@example.com"}
            )


asyncio.run(main())

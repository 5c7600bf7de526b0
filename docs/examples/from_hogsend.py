import asyncio

import hogsend


async def main() -> None:
    async with hogsend.connect() as client:  # NATS_URL from the environment
        # instead of getPostHog()
        posthog = await client.posthog()
        print("a project key" if posthog else "no project key")

        # instead of captureEvent, setPersonProperties or identify, and alias
        await client.capture("plan upgraded", "u_42", {"to": "pro"})
        await client.persons.set("u_42", {"plan": "pro"}, once={"since": 2026}, unset=["trial"])
        await client.persons.alias("u_42", "anonymous-7")

        # instead of getPersonProperties and isFeatureEnabled
        print(await client.persons.get("u_42"), await client.flags.get("new-mailer", "u_42"))

        # instead of ctx.when and its time zone
        moment = await client.when("u_42", weekday="monday", hour=9, default="Europe/Berlin")
        print(moment.at.strftime("%A %H:%M"), moment.timezone, moment.source)

        # instead of property conditions
        pro = hogsend.Condition(property="plan", operator="eq", value="pro")
        print(await client.conditions_met(["u_42"], [pro]))


asyncio.run(main())

import asyncio
import contextlib

import msgspec

import hogsend


class Plan(msgspec.Struct):
    plan: str
    seats: int = 1


async def keep(error: hogsend.CannotDecode) -> None:
    print("skipped", error.id, error.path, error.data)  # store it where you will see it


async def main() -> None:
    async with hogsend.connect() as client:
        events = client.events("plan_changed", durable="billing", type=Plan, undecodable=keep)
        async for event in events:
            print(event.user_id, event.properties.plan, event.properties.seats)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())

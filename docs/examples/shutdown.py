import asyncio
import signal

import hogsend


async def main() -> None:
    async with hogsend.connect() as client:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, client.stop)
        async for event in client.events("signed_up", durable="careful-mailer"):
            print(event.user_id)
    print("stopped")


asyncio.run(main())

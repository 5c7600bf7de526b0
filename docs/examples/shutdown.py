import asyncio
import signal

import hogsend


async def main() -> None:
    async with hogsend.connect() as client:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop)
        async for event in client.events("signed_up", durable="careful-mailer"):
            print(event.user_id)
    print("stopped")


asyncio.run(main())

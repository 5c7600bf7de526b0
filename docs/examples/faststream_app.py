import asyncio

from faststream import FastStream

from hogsend import CredentialChanged, Event
from hogsend.faststream import HogsendBroker

broker = HogsendBroker()  # NATS_URL from the environment


@broker.events("signed_up", durable="welcome-mailer-faststream")
async def welcome(event: Event) -> None:
    print(event.user_id, event.email, event.properties)


@broker.credential_changes("posthog")
async def watch_credentials(change: CredentialChanged) -> None:
    print(change.provider, change.change, change.version, change.scopes)


asyncio.run(FastStream(broker).run())

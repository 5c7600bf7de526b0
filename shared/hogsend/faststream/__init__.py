"""Hogsend for FastStream apps: `pip install 'hogsend[faststream]'`.

broker = HogsendBroker()

@broker.events("signed_up", durable="welcome-mailer")
async def welcome(event: Event) -> None:
...

app = FastStream(broker)
"""

from hogsend.faststream.broker import HogsendBroker
from hogsend.faststream.linked import LinkedBroker

__all__ = ["HogsendBroker", "LinkedBroker"]

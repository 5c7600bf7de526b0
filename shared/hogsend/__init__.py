"""Hogsend on the bus: subscribe to PostHog's events and to credential changes on NATS.

async with hogsend.connect() as bus:
    async for event in bus.events("signed_up", durable="mailer"):
        ...
"""

from hogsend.bus import Bus, connect
from hogsend.errors import HogsendError, Unavailable
from hogsend.messages import CredentialChanged, Event

__all__ = ["Bus", "CredentialChanged", "Event", "HogsendError", "Unavailable", "connect"]

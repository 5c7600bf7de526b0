"""Hogsend on the bus: subscribe to PostHog's events and to credential changes on NATS.

async with hogsend.connect() as bus:
    async for event in bus.events("signed_up", durable="mailer"):
        ...
"""

from hogsend._version import __version__
from hogsend.client.local_time import next_moment
from hogsend.contract.conditions import Condition
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import Forbidden, HogsendError, InvalidRequest, Unavailable
from hogsend.contract.events import Event
from hogsend.transport.connection import Bus, connect

__all__ = [
    "Bus",
    "Condition",
    "CredentialChanged",
    "Event",
    "Forbidden",
    "HogsendError",
    "InvalidRequest",
    "Unavailable",
    "__version__",
    "connect",
    "next_moment",
]

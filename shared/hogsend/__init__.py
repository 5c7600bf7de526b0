"""Hogsend on the bus: subscribe to PostHog's events and to credential changes on NATS.

async with hogsend.connect() as client:
    async for event in client.events("signed_up", durable="mailer"):
        ...
"""

from hogsend._version import __version__
from hogsend.client.client import Client, connect
from hogsend.client.local_time import next_moment
from hogsend.contract.conditions import Condition
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import (
    Forbidden,
    HogsendError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from hogsend.contract.events import Event
from hogsend.contract.persons import Timezone

__all__ = [
    "Client",
    "Condition",
    "CredentialChanged",
    "Event",
    "Forbidden",
    "HogsendError",
    "InvalidRequest",
    "NotFound",
    "Timezone",
    "Unavailable",
    "__version__",
    "connect",
    "next_moment",
]

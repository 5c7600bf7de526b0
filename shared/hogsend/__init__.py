"""The client library: PostHog's events and credential changes, received over NATS.

async with hogsend.connect() as client:
    async for event in client.events("signed_up", durable="mailer"):
        ...
"""

import warnings
from typing import Any

from hogsend._version import __version__
from hogsend.client.client import Client, Moment, PostHog, connect
from hogsend.client.decoding import CannotDecode, TypedEvent
from hogsend.client.local_time import next_moment
from hogsend.contract.conditions import Condition
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import (
    ConsumerConflict,
    Forbidden,
    HogsendError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from hogsend.contract.events import Event
from hogsend.contract.persons import Timezone

__all__ = [
    "CannotDecode",
    "Client",
    "Condition",
    "ConsumerConflict",
    "CredentialChanged",
    "Event",
    "Forbidden",
    "HogsendError",
    "InvalidRequest",
    "Moment",
    "NotFound",
    "PostHog",
    "Timezone",
    "TypedEvent",
    "Unavailable",
    "__version__",
    "connect",
    "next_moment",
]


def __getattr__(name: str) -> Any:
    # Renamed in 0.2; the next version drops the old name.
    if name == "Bus":
        warnings.warn("hogsend.Bus is hogsend.Client", DeprecationWarning, stacklevel=2)
        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

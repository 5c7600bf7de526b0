"""Capabilities: which parts of Hogsend work at present, as in the spec's degradation table."""

from __future__ import annotations

from typing import Annotated, Literal

from hogsend.contract.base import Empty, Message, open_enum
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

CapabilityName = Literal[
    "eventCapture",
    "personWrites",
    "personReads",
    "eventsIn",
    "engagementOut",
    "loopProvisioning",
]
CapabilityState = Literal["on", "off", "unknown"]


class Capability(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The present state of one capability, a row of the spec's degradation table."""

    name: Annotated[str, open_enum(CapabilityName)]
    state: Annotated[str, open_enum(CapabilityState)]
    reason: str
    """Why the capability is in that state."""
    remediation: str | None = None
    """What to configure; None if there is nothing to do."""


class Capabilities(Message, frozen=True):
    """The present state of all capabilities of a service."""

    capabilities: list[Capability]


ANALYTICS_CAPABILITIES = Endpoint(
    service=User.ANALYTICS,
    verb="capabilities",
    request=Empty,
    reply=Capabilities,
    callers=(User.GATEWAY, User.APP),
    summary="Which capabilities work, such as event capture, and why others do not.",
    deadline=5.0,
)

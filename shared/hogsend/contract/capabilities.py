"""Capabilities: the spec's degradation table, as it is here and now."""

from __future__ import annotations

from typing import Annotated, Literal

from hogsend.contract.base import Empty, Message, one_of
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
    """One row of the spec's degradation table, as it is now."""

    name: Annotated[str, one_of(CapabilityName)]
    state: Annotated[str, one_of(CapabilityState)]
    reason: str
    """Why it is in that state."""
    remediation: str | None = None
    """What to set; None when there is nothing to do."""


class Capabilities(Message, frozen=True):
    """Rows of the degradation table."""

    capabilities: list[Capability]


ANALYTICS_CAPABILITIES = Endpoint(
    service=User.ANALYTICS,
    verb="capabilities",
    request=Empty,
    reply=Capabilities,
    callers=(User.GATEWAY, User.APP),
    summary="Which of analytics' capabilities work, and why the others do not.",
    deadline=5.0,
)

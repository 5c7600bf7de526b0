"""Pings of NATS service discovery (ADR-32) that ask for one request.

While a request is unanswered, its caller pings all replicas of the service, and names the request
in the header `Hogsend-Request-Id`. Each replica that runs replies whether it has the request.
"""

from __future__ import annotations

from hogsend.contract.base import Message

PINGS = "$SRV.PING."
"""Prefix of the subjects of pings."""


def ping_subject(service: str) -> str:
    """The subject on which all replicas of `service` receive pings."""
    return f"{PINGS}hogsend-{service}"


class PingedReplica(Message, frozen=True):
    """What the reply to a ping reports beyond ADR-32."""

    in_progress: bool | None = None
    """Whether the replica has received the named request, and not replied to it yet. None if the
    replica cannot tell, which is so for earlier versions."""

"""Pings of NATS service discovery (ADR-32) that ask for requests.

While requests are unanswered, their caller pings all replicas of the service, and names the
requests in the body. Each replica that runs replies which of them it has.
"""

from __future__ import annotations

from hogsend.contract.base import Message

PINGS = "$SRV.PING."
"""Prefix of the subjects of pings."""
MAX_PING_BYTES = 64 * 1024
"""A longer body of a ping is not decoded. Every user that may call a service may ping it, and the
memory budget of requests does not include pings."""


def ping_subject(service: str) -> str:
    """The subject on which all replicas of `service` receive pings."""
    return f"{PINGS}hogsend-{service}"


class PingQuery(Message, frozen=True):
    """Body of a ping: the slow requests of the caller. A ping of other programs has no body."""

    requests: list[str] = []
    """Their headers `Hogsend-Request-Id`."""


class PingedReplica(Message, frozen=True):
    """What the reply to such a ping reports beyond ADR-32."""

    in_progress: list[str] | None = None
    """Those of the requests that the replica has received, and not replied to yet. None if the
    replica cannot tell, which is so for earlier versions and for a ping that is too long."""

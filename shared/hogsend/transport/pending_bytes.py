"""The size of a subscription's pending queue in nats-py."""

from __future__ import annotations

from nats.aio.client import Client

PENDING_BYTES = 8 * 1024 * 1024
"""Byte limit of a push subscription's pending queue in nats-py. One message of any size still fits.
Beyond the limit nats-py drops messages, so a request that arrives then times out at its caller."""


def pending_bytes_limit(client: Client) -> int:
    """Return the byte limit of a subscription's pending queue; nats-py's default is 128 MiB."""
    return PENDING_BYTES + client.max_payload

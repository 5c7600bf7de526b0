"""Calls the handlers of a service with FastStream's test broker, without a NATS server.

async with TestNatsBroker(broker):
    meta = await ask(broker, CREDENTIALS_GET, ProviderRef(provider_id="posthog"))
"""

from __future__ import annotations

import msgspec
from faststream.nats import NatsBroker
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER

from hogsend.contract.errors import from_code
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.service.broker import ServiceBroker
from hogsend.transport.connection import Connection


def offline_broker(user: User) -> ServiceBroker:
    """Create a service's broker that never connects, for a `TestNatsBroker`."""
    return ServiceBroker(user, Connection(user, "nats://127.0.0.1:4222"))


async def ask(
    broker: NatsBroker, endpoint: Endpoint[Request, Reply], message: Request, *, seconds: float = 10
) -> Reply:
    """Send a request to an endpoint of the broker, as another service would.

    Raises:
        HogsendError: the error that the handler raised.
    """
    reply = await broker.request(message, endpoint.subject, timeout=seconds)
    if ERROR_CODE_HEADER in reply.headers:
        raise from_code(reply.headers[ERROR_CODE_HEADER], reply.headers.get(ERROR_HEADER, ""))
    return msgspec.json.decode(reply.body, type=endpoint.reply)

"""Calls the handlers of a service without a server, through FastStream's test broker.

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
    """Make a service's broker that never connects, to be put into a `TestNatsBroker`."""
    return ServiceBroker(user, Connection(user, "nats://127.0.0.1:4222"))


async def ask(
    broker: NatsBroker, endpoint: Endpoint[Request, Reply], message: Request, *, seconds: float = 10
) -> Reply:
    """Ask an endpoint whose router the broker includes, as another service would.

    Raises:
        HogsendError: the typed error the handler raised.
    """
    answer = await broker.request(message, endpoint.subject, timeout=seconds)
    if ERROR_CODE_HEADER in answer.headers:
        raise from_code(answer.headers[ERROR_CODE_HEADER], answer.headers.get(ERROR_HEADER, ""))
    return msgspec.json.decode(answer.body, type=endpoint.reply)

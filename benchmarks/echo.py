"""Serves an endpoint with a constant reply, to measure the service chassis and NATS alone."""

from __future__ import annotations

import os
from typing import TypeVar

from hogsend.contract.base import Message
from hogsend.contract.registry import Endpoint
from hogsend.service import garbage_collection
from hogsend.service.app import service_app
from hogsend.service.broker import service_broker
from hogsend.service.router import ServiceRouter
from hogsend.service.settings.shared import BusSettings

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


async def serve_constant_reply(endpoint: Endpoint[Request, Reply], reply: Reply) -> None:
    """Serve an endpoint until SIGTERM, in the same way as its service."""
    garbage_collection.configure()
    router = ServiceRouter()

    @router.endpoint(endpoint)
    async def reply_always(_request: Message) -> Reply:
        return reply

    broker = service_broker(endpoint.service, BusSettings(nats_url=os.environ["NATS_URL"]))
    broker.include(router)
    await service_app(broker).run()

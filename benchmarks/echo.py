"""Answer one endpoint with the same reply always: what the chassis and NATS alone make of it."""

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


async def answer_always(endpoint: Endpoint[Request, Reply], reply: Reply) -> None:
    """Serve until SIGTERM, as the endpoint's own service would."""
    garbage_collection.configure()
    router = ServiceRouter()

    @router.endpoint(endpoint)
    async def answer(_request: Message) -> Reply:
        return reply

    broker = service_broker(endpoint.service, BusSettings(nats_url=os.environ["NATS_URL"]))
    broker.include(router)
    await service_app(broker).run()

"""FastStream's `NatsBroker` over a `Connection`, so that a process has one NATS connection."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import anyio
from fast_depends.msgspec import MsgSpecSerializer
from faststream._internal.broker import BrokerUsecase
from faststream.nats import NatsBroker
from nats.aio.client import Client

from hogsend.contract.permissions import inbox_prefix
from hogsend.transport.addresses import without_password
from hogsend.transport.connection import Connection


class LinkedBroker(NatsBroker):
    """A broker that connects with a `Connection`.

    The connection has the NATS user's own inbox prefix, requires TLS where it is configured, and
    reconnects without end. nats-py gives up after two minutes without a server, and FastStream's
    broker after the first refusal. Messages are msgspec Structs.
    """

    def __init__(self, link: Connection, **options: Any) -> None:
        """Prepare without connecting; `options` are those of `NatsBroker`."""
        self.link = link
        super().__init__(
            [without_password(address) for address in link.addresses],
            name=f"hogsend-{link.user}",
            inbox_prefix=inbox_prefix(link.user),
            serializer=MsgSpecSerializer(use_fastdepends_errors=False),
            **options,
        )

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Stop every subscriber after the message it handles, and close the connection."""
        # An anyio scope that was cancelled would cancel at every await here.
        with anyio.CancelScope(shield=exc_type is not None):
            try:
                # Not `NatsBroker.stop`: it drains the connection, which fails while NATS cannot be
                # reached.
                await BrokerUsecase.stop(self, exc_type, exc_val, exc_tb)
            finally:
                await self.link.close()
                self._connection = None
                self.config.disconnect()

    async def _connect(self) -> Client:
        if not self.link.connected:
            await self.link.open()
        self.config.connect(self.link.client)
        return self.link.client

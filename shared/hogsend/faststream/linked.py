"""FastStream's `NatsBroker` on a connection of ours: one NATS connection of one process."""

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
    """A broker whose connection has the user's own inbox, TLS it insists on, and no end.

    nats-py gives up after two minutes without a server, and FastStream's broker after the first
    refusal; `Connection` reconnects without end. Messages are msgspec Structs.
    """

    def __init__(self, link: Connection, **options: Any) -> None:
        """Prepare without connecting; `options` are `NatsBroker`'s own."""
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
        """Stop every subscriber, each of which finishes what it holds, and close the connection."""
        # A scope of anyio's whose cancellation ends a block would cancel at every await here.
        with anyio.CancelScope(shield=exc_type is not None):
            try:
                # Not NatsBroker's: it drains the connection, which fails while NATS cannot be
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

"""Answers requests for bearers with the same bytes always: what NATS alone makes of them."""

from __future__ import annotations

import os

import uvloop

from hogsend.contract.credentials import CREDENTIALS_TOKEN, TokenReply, TokenRequest
from hogsend.contract.users import User
from hogsend.service.serving import Handler, serve, until_stopped
from hogsend.transport.connection import Connection

REPLY = TokenReply(source="oauth", version=1, token="pha_bench" * 5)


async def answer(_request: TokenRequest) -> TokenReply:
    """Look nothing up."""
    return REPLY


async def run() -> None:
    """Serve until SIGTERM."""
    bus = Connection(User.CREDENTIALS, os.environ["NATS_URL"])
    await bus.open()
    await serve(bus, User.CREDENTIALS, [Handler(CREDENTIALS_TOKEN, answer)])
    await until_stopped()
    await bus.close()


if __name__ == "__main__":
    uvloop.run(run())

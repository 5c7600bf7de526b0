"""Answers requests for persons with the same one always: what NATS alone makes of them."""

from __future__ import annotations

import os

import uvloop

from benchmarks.persons import PROPERTIES
from hogsend.contract.persons import ANALYTICS_PERSON, GetPerson, Person
from hogsend.contract.users import User
from hogsend.service.serving import Handler, serve, until_stopped
from hogsend.transport.connection import Connection

REPLY = Person(PROPERTIES)


async def answer(_request: GetPerson) -> Person:
    """Look nobody up."""
    return REPLY


async def run() -> None:
    """Serve until SIGTERM."""
    bus = Connection(User.ANALYTICS, os.environ["NATS_URL"])
    await bus.open()
    await serve(bus, User.ANALYTICS, [Handler(ANALYTICS_PERSON, answer)])
    await until_stopped()
    await bus.close()


if __name__ == "__main__":
    uvloop.run(run())

"""What a connection remembers of subjects that may be refused."""

from __future__ import annotations

from hogsend.transport.connection import Connection


async def test_a_subject_is_remembered_while_somebody_waits() -> None:
    connection = Connection("subscriber", "nats://127.0.0.1:4222")
    waiting = connection.refusals.of("$JS.API.CONSUMER.INFO.EVENTS.mine")
    assert connection.refusals.of("$js.api.consumer.info.events.mine") is waiting
    for number in range(100):
        connection.refusals.of(f"$JS.API.CONSUMER.INFO.EVENTS.{number}")
    assert len(connection.refusals._waiting) == 1

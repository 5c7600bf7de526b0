"""A consumer that inserts the events that the receiver published, a few hundred rows at a time.

An event is stored once by its id. It has no contacts, and publishes nothing.
"""

from __future__ import annotations

import os

import asyncpg
import msgspec
import nats
import nats.errors
import uvloop

BATCH = 500


class Event(msgspec.Struct):
    """The fields of an event that are stored in columns."""

    uuid: str
    event: str
    distinct_id: str


class Webhook(msgspec.Struct):
    """The body of PostHog's webhook."""

    event: Event


async def main() -> None:
    """Consume events until the process ends."""
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"])
    await pool.execute(
        "CREATE TABLE IF NOT EXISTS peer_events"
        " (id text PRIMARY KEY, name text, distinct_id text, payload jsonb)"
    )
    client = await nats.connect(os.environ["NATS_URL"])
    js = client.jetstream()
    subscription = await js.pull_subscribe("webhooks.>", "peer", stream="WEBHOOKS")
    decode = msgspec.json.Decoder(Webhook).decode
    while True:
        try:
            messages = await subscription.fetch(BATCH, timeout=5)
        except nats.errors.TimeoutError:
            continue
        events = [decode(message.data).event for message in messages]
        await pool.execute(
            "INSERT INTO peer_events SELECT * FROM unnest($1::text[], $2::text[], $3::text[],"
            " $4::jsonb[]) ON CONFLICT DO NOTHING",
            [event.uuid for event in events],
            [event.event for event in events],
            [event.distinct_id for event in events],
            [message.data.decode() for message in messages],
        )
        for message in messages:
            await message.ack()


if __name__ == "__main__":
    uvloop.run(main())

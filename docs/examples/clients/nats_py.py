# pip install nats-py
import asyncio
import json
import os

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy


async def main() -> None:
    connection = await nats.connect(
        os.environ["NATS_SERVER"],
        user=os.environ["NATS_USERNAME"],
        password=os.environ["NATS_PASS"],
        inbox_prefix=os.environ["NATS_INBOX_PREFIX"],
    )
    js = connection.jetstream()
    print("stream:", await js.find_stream_name_by_subject("hogsend.events.signed_up"))

    # A durable keeps its position under its name; replicas that share the name share the events.
    durable = await js.pull_subscribe("hogsend.events.signed_up", durable="mailer-py")
    (message,) = await durable.fetch(1, timeout=60)
    print("durable:", json.loads(message.data)["userId"])
    await message.ack()

    # Without a name the position is kept while the subscriber reads.
    unnamed = await js.pull_subscribe("hogsend.events.*", stream="EVENTS")
    (message,) = await unnamed.fetch(1, timeout=60)
    print("unnamed:", message.subject)
    await message.ack()

    # In order, for one reader, with nothing to acknowledge.
    ordered = await js.subscribe("hogsend.events.*", ordered_consumer=True)
    print("ordered:", (await ordered.next_msg(timeout=60)).subject)

    # The last state of every credential, and each change from then on.
    states = await js.pull_subscribe(
        "hogsend.credentials.*.changed",
        stream="CREDENTIALS",
        config=ConsumerConfig(
            ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT
        ),
    )
    (state,) = await states.fetch(1, timeout=60)
    print("credential:", json.loads(state.data)["provider"])

    await connection.close()


asyncio.run(main())

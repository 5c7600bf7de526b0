"""A person in every stream and table is erased from a running stack, and no other person is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from dotenv import dotenv_values
from nats.js.errors import NotFoundError

import hogsend
from hogsend.contract.dead_letters import read_letter
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from tests.capture_recorder import Reply, capture_recorder
from tests.running_stack import Up, up
from tests.waiting import eventually

TABLES = """SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"""


async def webhook(stack: Up, event: str, person: str, email: str | None = None) -> None:
    body = {
        "event": {
            "event": event,
            "distinct_id": person,
            "properties": {"secret": f"secret of {person}"},
            "timestamp": datetime.now(UTC).isoformat(),
        },
        "person": {"properties": {"email": email} if email else {}},
    }
    assert (await stack.http.post("/v1/webhooks/posthog", json=body)).status_code == 200


async def spread(stack: Up, person: str) -> None:
    """Store a person in every stream and table that can name a person."""
    email = f"{person}@example.com"
    before = await stack.stored()
    await webhook(stack, "visited", f"anonymous-{person}")
    await webhook(stack, "signed up", person, email)
    await eventually(lambda: has_stored(stack, before + 2))
    # This event merges both ids into one person.
    await webhook(stack, "logged in", f"anonymous-{person}", email)
    async with hogsend.connect(stack.app_url) as app:
        # PostHog responds 503, so these stay in their streams.
        await app.persons.set(person, {"secret": "s"})
        await app.capture("captured", f"anonymous-{person}", {"secret": "s"})
        await app.engagement.report("email.sent", {"userId": person, "to": email})
        await app.engagement.report("email.opened", {"to": email})
    async with hogsend.connect(operator(stack), user=User.OPERATOR) as bus:
        for subject, body in (
            ("hogsend.webhooks.posthog", b'{"event":{"distinct_id":"%b"' % person.encode()),
            ("hogsend.webhooks.stripe", json.dumps({"customer": email}).encode()),
            ("hogsend.engagement.email.sent", json.dumps([{"userId": person}]).encode()),
            ("hogsend.engagement.of.no.type", json.dumps({"data": {"userId": person}}).encode()),
            ("hogsend.persons.set", json.dumps([{"distinctId": person}]).encode()),
        ):
            await bus.connection.publish(subject, body, {})
    report = {"event": "custom", "userId": person, "email": email, "properties": {"secret": "s"}}
    recorded = await stack.http.post("/v1/events", headers=stack.admin, json=report)
    assert recorded.status_code == 202
    await eventually(lambda: has_stored(stack, before + 6))


async def has_stored(stack: Up, count: int) -> bool:
    return await stack.stored() >= count


async def has_dead_letters(stack: Up, count: int) -> bool:
    response = await stack.http.get("/v1/admin/deadletters", headers=stack.admin)
    return bool(response.json()["total"] == count)


def operator(stack: Up) -> str:
    return str(dotenv_values(stack.home / "operator.env")["NATS_URL"])


async def messages(stack: Up) -> AsyncIterator[tuple[StreamName, str]]:
    """Yield every message of every stream as text; a dead letter with the message in it decoded."""
    async with hogsend.connect(operator(stack), user=User.OPERATOR) as bus:
        for stream in StreamName:
            state = (await bus.connection.js.stream_info(stream)).state
            for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
                with suppress(NotFoundError):
                    message = await bus.connection.js.get_msg(stream, sequence)
                    headers, body = message.headers or {}, message.data or b""
                    text = f"{message.subject} {headers} {body.decode()}"
                    if stream is StreamName.DEADLETTER:
                        letter = read_letter(headers, body)
                        text += f" {letter.headers} {letter.body.decode()}"
                    yield stream, text


async def rows(stack: Up) -> AsyncIterator[tuple[str, str]]:
    """Yield every row of every table as text."""
    connection = await asyncpg.connect(stack.postgres_url)
    try:
        for (table,) in await connection.fetch(TABLES):
            for (row,) in await connection.fetch(f"SELECT each::text FROM {table} AS each"):  # noqa: S608
                yield table, row
    finally:
        await connection.close()


async def places(stack: Up, person: str) -> set[str]:
    """Return the streams and tables that name a person."""
    streams = {str(stream) async for stream, text in messages(stack) if person in text}
    return streams | {table async for table, row in rows(stack) if person in row}


async def contact(stack: Up, person: str) -> dict[str, Any]:
    response = await stack.http.get(
        "/v1/admin/contacts", headers=stack.admin, params={"key": person}
    )
    (match,) = response.json()["contacts"]
    return dict(match)


async def is_swept(stack: Up) -> bool:
    """Whether the first sweep of the erasure has ended.

    A second sweep deletes messages that were published during the first.
    """
    connection = await asyncpg.connect(stack.postgres_url)
    try:
        return bool(await connection.fetchval("SELECT swept_at FROM ingest.erasures"))
    finally:
        await connection.close()


EVERYWHERE = {
    *("EVENTS", "ENGAGEMENT", "PERSONS", "DEADLETTER"),
    *("ingest.contacts", "ingest.contact_keys", "ingest.contact_merges"),
}


async def test_a_person_is_erased_from_every_stream_and_table_and_no_other_person_is(
    tmp_path: Path,
) -> None:
    async with capture_recorder() as posthog:
        posthog.respond = lambda _batch: Reply(503)
        settings = {
            "POSTHOG_HOST": posthog.url,
            "POSTHOG_API_KEY": "phc_test",
            "ENABLE_POSTHOG_DESTINATION": "true",
            "ANALYTICS_EVENT_MIRROR": "true",
            "WEBHOOK_OPEN": "true",
        }
        async with up(tmp_path / "home", tmp_path, **settings) as stack:
            await spread(stack, "zerlina")
            await spread(stack, "ottilie")
            await eventually(lambda: has_dead_letters(stack, 10))
            assert await places(stack, "zerlina") >= EVERYWHERE
            rows_of_ottilie = {row async for _, row in rows(stack) if "ottilie" in row}
            messages_of_ottilie = {text async for _, text in messages(stack) if "ottilie" in text}

            old = await contact(stack, "zerlina")
            deletion = await stack.http.delete(
                f"/v1/admin/contacts/{old['id']}", headers=stack.admin
            )
            assert deletion.status_code == 202
            await eventually(lambda: is_swept(stack))
            remaining = [text async for _, text in messages(stack) if "zerlina" in text]
            assert [text.split(" ")[0] for text in remaining] == [
                f"hogsend.contacts.{old['id']}.erased"
            ]
            # The row of the erasure itself names the person until the second sweep.
            assert await places(stack, "zerlina") == {"EVENTS", "ingest.erasures"}
            assert {row async for _, row in rows(stack) if "ottilie" in row} == rows_of_ottilie
            assert {
                text async for _, text in messages(stack) if "ottilie" in text
            } == messages_of_ottilie

            before = await stack.stored()
            await webhook(stack, "returned", "zerlina", "zerlina@example.com")
            await eventually(lambda: has_stored(stack, before + 1))
            new = await contact(stack, "zerlina")
            assert new["id"] != old["id"]
            assert (new["properties"], new["merges"]) == ({"email": "zerlina@example.com"}, [])

"""An export has all data of a person: from tables, streams, dead letters and the audit trail."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from uuid import UUID

import msgspec
import pytest

from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.contract.exports import INGEST_EXPORT, PARTS, ExportContact, Part
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from services.ingest.erasure import sweep
from services.ingest.export import exporter
from tests.integration import harness
from tests.integration.ingest.driver import Driver
from tests.integration.ingest.test_erasure import ADA, contact_id, queue_everywhere
from tests.servers import Servers

AUDIT = (
    "INSERT INTO ingest.audit (id, at, actor, action, resource, status, request_id, address) "
    "VALUES (gen_random_uuid(), now() - $1 * interval '1 minute', 'full-admin', 'contacts.get', "
    "$2, 200, 'r', '192.0.2.1')"
)


async def export_all(gateway: Connection, id: UUID, *, only_count: bool = False) -> dict[str, Any]:
    """Export all pages of all parts: items, counts and numbers of pages."""
    export: dict[str, Any] = {"counts": Counter(), "pages": Counter()}
    for part in PARTS:
        export[part] = []
        after: str | None = None
        while True:
            request = ExportContact(contact_id=id, part=part, after=after, only_count=only_count)
            page = await gateway.request(INGEST_EXPORT, request)
            export[part] += [json.loads(bytes(item)) for item in page.items]
            export["counts"].update(page.counts)
            export["pages"][part] += 1
            if (after := page.next) is None:
                break
    return export


async def prepare(servers: Servers, driver: Driver) -> UUID:
    await driver.post("e1", distinct_id="anon-ada")
    await driver.post("e2", distinct_id="ada", person=ADA)
    # Two contacts at first, which the next event merges.
    await driver.drained()
    await driver.post("e3", distinct_id="anon-ada", person=ADA)
    # The user id is a placeholder, so the email alone identifies the person.
    await driver.post("e4", distinct_id="anonymous", person=ADA)
    await driver.post("e5", distinct_id="ben")
    await queue_everywhere(servers, driver)
    await driver.dead_letters(1)
    id = await contact_id(driver, "ada@example.com")
    for minutes, resource in enumerate((f"{id}", f"{id}/export", "ada", f"x{id}", "ben", "")):
        await driver.rows.execute(AUDIT, minutes, resource)
    return id


@pytest.mark.parametrize("small", [False, True])
async def test_an_export_has_all_data_of_a_person_and_none_of_other_people(
    servers: Servers, driver: Driver, monkeypatch: pytest.MonkeyPatch, *, small: bool
) -> None:
    if small:
        monkeypatch.setattr(exporter, "PAGE_ROWS", 1)
        monkeypatch.setattr(exporter, "PAGE_BYTES", 1)
        monkeypatch.setattr(exporter, "PAGE_BLOCKS", 1)
        monkeypatch.setattr(sweep, "MAX_BATCHES", 1)
        monkeypatch.setattr(sweep, "BATCH", 2)
    async with driver.replica():
        id = await prepare(servers, driver)
        async with harness.connected(servers, User.GATEWAY) as gateway:
            export = await export_all(gateway, id)
            counted = await export_all(gateway, id, only_count=True)
    (contact,) = export["contact"]
    assert (contact["id"], contact["email"]) == (str(id), "ada@example.com")
    assert contact["properties"] == {"email": "ada@example.com"}
    keys = {(key["kind"], key["value"]) for key in export["keys"]}
    assert {("external", "ada"), ("external", "anon-ada"), ("email", "ada@example.com")} <= keys
    assert len(export["merges"]) == 1
    assert {key["value"] for key in export["merges"][0]["loserKeys"]} <= {
        value for _, value in keys
    }
    assert Counter(event["id"] for event in export["events"]) == Counter(["e1", "e2", "e3", "e4"])
    assert all(event["queuedAt"] <= event["storedAt"] for event in export["events"])
    assert Counter(message["stream"] for message in export["messages"]) == {
        "EVENTS": 4,
        "PERSONS": 1,
        "DEADLETTER": 1,
    }
    (letter,) = [message for message in export["messages"] if message["stream"] == "DEADLETTER"]
    assert (letter["originalStream"], letter["reason"]) == ("WEBHOOKS", "malformed")
    assert "bodyBase64" in letter
    (person,) = [message for message in export["messages"] if message["stream"] == "PERSONS"]
    assert person["body"] == {"distinctId": "ada"}
    assert [entry["resource"] for entry in export["audit"]] == ["ada", f"{id}/export", f"{id}"]
    text = json.dumps(export)
    assert "ben" not in text
    assert "192.0.2.1" not in text
    assert counted["counts"] == export["counts"]
    assert not any(counted[part] for part in PARTS)
    assert (export["pages"]["events"] > 1) is small
    assert (export["pages"]["keys"] > 1) is small


async def test_the_id_of_a_merged_contact_exports_the_survivor_and_wrong_ids_are_refused(
    servers: Servers, driver: Driver
) -> None:
    async with driver.replica():
        id = await prepare(servers, driver)
        loser = await driver.rows.fetchval("SELECT loser FROM ingest.contact_merges")
        async with harness.connected(servers, User.GATEWAY) as gateway:
            page = await gateway.request(
                INGEST_EXPORT, ExportContact(contact_id=loser, part="contact")
            )
            assert msgspec.json.decode(bytes(page.items[0]))["id"] == str(id)
            with pytest.raises(NotFound):
                await export_all(gateway, UUID(int=7))
            parts: tuple[tuple[Part, str], ...] = (
                ("keys", "external:zz"),
                ("merges", "x"),
                ("audit", "yesterday"),
                ("events", "-"),
                ("events", "0/(1)"),
                ("events", f"{2**70}"),
                ("messages", "AUDIT/1"),
                ("messages", "EVENTS/x"),
            )
            for part, after in parts:
                request = ExportContact(contact_id=id, part=part, after=after)
                with pytest.raises(InvalidRequest):
                    await gateway.request(INGEST_EXPORT, request)


async def test_an_export_with_large_events_has_several_pages(
    servers: Servers, driver: Driver
) -> None:
    async with driver.replica():
        for number in range(6):
            await driver.post(
                f"e{number}", distinct_id="ada", person=ADA, properties={"text": "x" * 300_000}
            )
        await driver.drained()
        id = await contact_id(driver, "ada@example.com")
        async with harness.connected(servers, User.GATEWAY) as gateway:
            export = await export_all(gateway, id)
    assert Counter(event["id"] for event in export["events"]) == Counter(f"e{n}" for n in range(6))
    assert export["pages"]["events"] > 3
    assert len([message for message in export["messages"] if message["stream"] == "EVENTS"]) == 6

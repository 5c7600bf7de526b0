"""Everything about one person is found: in tables, on streams, in dead letters and in the trail."""

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


async def whole(gateway: Connection, id: UUID, *, only_count: bool = False) -> dict[str, Any]:
    """All pages of all parts: their items and their numbers, and how many pages there were."""
    found: dict[str, Any] = {"counts": Counter(), "pages": Counter()}
    for part in PARTS:
        found[part] = []
        after: str | None = None
        while True:
            wanted = ExportContact(contact_id=id, part=part, after=after, only_count=only_count)
            page = await gateway.request(INGEST_EXPORT, wanted)
            found[part] += [json.loads(bytes(item)) for item in page.items]
            found["counts"].update(page.counts)
            found["pages"][part] += 1
            if (after := page.next) is None:
                break
    return found


async def prepare(servers: Servers, driver: Driver) -> UUID:
    await driver.post("e1", distinct_id="anon-ada")
    await driver.post("e2", distinct_id="ada", person=ADA)
    # Two contacts at first, which the next event makes one.
    await driver.drained()
    await driver.post("e3", distinct_id="anon-ada", person=ADA)
    # The user id is nobody's: the address alone says whose it is.
    await driver.post("e4", distinct_id="anonymous", person=ADA)
    await driver.post("e5", distinct_id="ben")
    await queue_everywhere(servers, driver)
    await driver.dead_letters(1)
    id = await contact_id(driver, "ada@example.com")
    for minutes, resource in enumerate((f"{id}", f"{id}/export", "ada", f"x{id}", "ben", "")):
        await driver.rows.execute(AUDIT, minutes, resource)
    return id


@pytest.mark.parametrize("small", [False, True])
async def test_everything_about_a_person_is_given_and_nothing_about_others(
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
            found = await whole(gateway, id)
            counted = await whole(gateway, id, only_count=True)
    (contact,) = found["contact"]
    assert (contact["id"], contact["email"]) == (str(id), "ada@example.com")
    assert contact["properties"] == {"email": "ada@example.com"}
    keys = {(one["kind"], one["value"]) for one in found["keys"]}
    assert {("external", "ada"), ("external", "anon-ada"), ("email", "ada@example.com")} <= keys
    assert len(found["merges"]) == 1
    assert {one["value"] for one in found["merges"][0]["loserKeys"]} <= {value for _, value in keys}
    assert Counter(one["id"] for one in found["events"]) == Counter(["e1", "e2", "e3", "e4"])
    assert all(one["queuedAt"] <= one["storedAt"] for one in found["events"])
    assert Counter(one["stream"] for one in found["messages"]) == {
        "EVENTS": 4,
        "PERSONS": 1,
        "DEADLETTER": 1,
    }
    (letter,) = [one for one in found["messages"] if one["stream"] == "DEADLETTER"]
    assert (letter["originalStream"], letter["reason"]) == ("WEBHOOKS", "malformed")
    assert "bodyBase64" in letter
    (person,) = [one for one in found["messages"] if one["stream"] == "PERSONS"]
    assert person["body"] == {"distinctId": "ada"}
    assert [one["resource"] for one in found["audit"]] == ["ada", f"{id}/export", f"{id}"]
    text = json.dumps(found)
    assert "ben" not in text
    assert "192.0.2.1" not in text
    assert counted["counts"] == found["counts"]
    assert not any(counted[part] for part in PARTS)
    assert (found["pages"]["events"] > 1) is small
    assert (found["pages"]["keys"] > 1) is small


async def test_one_that_was_merged_away_leads_to_the_same_and_nobody_is_not_found(
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
                await whole(gateway, UUID(int=7))
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
                wanted = ExportContact(contact_id=id, part=part, after=after)
                with pytest.raises(InvalidRequest):
                    await gateway.request(INGEST_EXPORT, wanted)


async def test_a_person_with_large_events_is_given_in_pages_that_fit(
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
            found = await whole(gateway, id)
    assert Counter(one["id"] for one in found["events"]) == Counter(f"e{n}" for n in range(6))
    assert found["pages"]["events"] > 3
    assert len([one for one in found["messages"] if one["stream"] == "EVENTS"]) == 6

"""Export and erasure of a person over HTTP. An erasure deletes the person in PostHog first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs

from hogsend.contract import subjects
from hogsend.contract.contacts import INGEST_ERASE, EraseContact, Erasure
from hogsend.contract.errors import HogsendError, NotFound, Unavailable
from hogsend.contract.exports import INGEST_EXPORT, ExportContact, ExportPage
from hogsend.contract.persons import ANALYTICS_DELETE_PERSON, DeletePerson, PersonDeletion
from hogsend.contract.provisioning import Refusal
from hogsend.contract.registry import Endpoint
from hogsend.service.metrics import FAILURES
from tests.unit.gateway.fakes import READ_KEY, FakeConnection, bearer, fake_gateway

ID = UUID(int=42)
URL = f"/v1/admin/contacts/{ID}/export"
PREVIEW = f"/v1/admin/contacts/{ID}/erasure"


class Pages:
    """Replies of ingest, by part and position. A part without a reply is empty."""

    def __init__(self, bus: FakeConnection) -> None:
        self.replies: dict[tuple[str, str | None], ExportPage | Exception] = {
            ("contact", None): page({"id": str(ID)})
        }
        self.later_replies: dict[tuple[str, str | None], ExportPage | Exception] = {}
        """Replies of ingest after the first request to another service."""
        self.requests: list[ExportContact] = []
        self._request = bus.request
        bus.request = self.request  # type: ignore[method-assign]

    async def request(self, endpoint: Endpoint[Any, Any], message: Any, **options: Any) -> Any:
        if endpoint is not INGEST_EXPORT:
            self.replies |= self.later_replies
            return await self._request(endpoint, message, **options)
        request = cast("ExportContact", message)
        self.requests.append(request)
        response = self.replies.get((request.part, request.after), page())
        if isinstance(response, Exception):
            raise response
        return response


def page(*items: Any, following: str | None = None, **counts: int) -> ExportPage:
    raw = [msgspec.Raw(json.dumps(item).encode()) for item in items]
    return ExportPage(items=raw, counts=counts, next=following)


async def test_the_pages_of_an_export_become_one_document() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        pages.replies |= {
            ("events", None): page({"n": 1}, {"n": 2}, following="b"),
            ("events", "b"): page(following="c"),
            ("events", "c"): page({"n": 3}),
            ("audit", None): page({"a": 1}),
        }
        response = await gateway.http.get(URL, headers=bearer())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document)[-1] == "complete"
    assert document["contact"] == {"id": str(ID)}
    assert document["events"] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert (document["keys"], document["messages"], document["audit"]) == ([], [], [{"a": 1}])
    assert {request.contact_id for request in pages.requests} == {ID}


async def test_an_export_is_audited_and_refused_for_a_read_key() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        assert (await gateway.http.get(URL, headers=bearer())).status_code == 200
        requests = len(pages.requests)
        refused = await gateway.http.get(URL, headers=bearer(READ_KEY))
        assert (refused.status_code, len(pages.requests)) == (403, requests)
        assert (await gateway.http.get(PREVIEW, headers=bearer(READ_KEY))).status_code == 403
        await gateway.http.get(PREVIEW, headers=bearer())
        entries = [
            msgspec.json.decode(message.body)
            for message in gateway.bus.published.messages
            if message.subject == subjects.AUDIT
        ]
    assert [(entry["action"], entry["resource"], entry["status"]) for entry in entries] == [
        ("contacts.get", f"{ID}/export", 200),
        ("contacts.get", f"{ID}/export", 403),
    ]


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (Unavailable("ingest is away"), {"log_level": "warning", "reason": "ingest is away"}),
        (RuntimeError("a fault"), {"log_level": "error"}),
    ],
)
async def test_an_export_that_is_cut_off_is_logged_and_counted(
    error: Exception, fields: dict[str, str]
) -> None:
    counted = FAILURES.labels("answer", type(error).__name__)
    before = counted._value.get()
    async with fake_gateway() as gateway:
        Pages(gateway.bus).replies[("events", None)] = error
        with capture_logs() as lines:
            await gateway.http.get(URL, headers=bearer())
    (line,) = [line for line in lines if line["event"] == "a response was cut off"]
    assert fields.items() <= line.items()
    assert line["route"].endswith("/export")
    assert counted._value.get() == before + 1


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("there is no contact"), 404), (Unavailable("down"), 503)]
)
async def test_an_export_that_fails_at_its_first_page_has_the_status_of_the_error(
    error: HogsendError, status: int
) -> None:
    async with fake_gateway() as gateway:
        Pages(gateway.bus).replies[("contact", None)] = error
        response = await gateway.http.get(URL, headers=bearer())
    assert response.status_code == status


async def test_an_export_that_fails_at_a_later_page_is_incomplete_json() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        pages.replies |= {
            ("events", None): page({"n": 1}, following="b"),
            ("events", "b"): Unavailable("down"),
        }
        response = await gateway.http.get(URL, headers=bearer())
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.content)


async def test_an_erasure_preview_sums_the_counts_of_all_pages_without_requesting_items() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        pages.replies |= {
            ("keys", None): page(keys=2),
            ("events", None): page(following="b", events=200),
            ("events", "b"): page(events=3),
            ("messages", None): page(following="b", EVENTS=1, PERSONS=2),
            ("messages", "b"): page(PERSONS=4),
        }
        response = await gateway.http.get(PREVIEW, headers=bearer())
    assert response.json() == {
        "contactId": str(ID),
        "keys": 2,
        "merges": 0,
        "events": 203,
        "messages": {"EVENTS": 1, "PERSONS": 6},
    }
    assert all(request.only_count for request in pages.requests)


ERASE = f"/v1/admin/contacts/{ID}"
ERASURE = Erasure(
    id="e",
    contact_id=str(ID),
    requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    finished_at=None,
    events=0,
    messages=0,
)


async def test_an_erasure_deletes_the_person_in_posthog_first_by_every_known_id() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        pages.replies |= {
            # The request had the id of a contact that was merged into this one.
            ("contact", None): page({"id": str(UUID(int=7)), "email": "a@b.c"}),
            ("keys", None): page({"kind": "external", "value": "u_42"}, following="b"),
            ("keys", "b"): page({"kind": "email", "value": "a@b.c"}),
        }
        gateway.bus.reply_with(ANALYTICS_DELETE_PERSON, PersonDeletion())
        gateway.bus.reply_with(INGEST_ERASE, ERASURE)
        response = await gateway.http.delete(f"{ERASE}?posthog=true", headers=bearer())
        requested_subjects = [request.subject for request in gateway.bus.sent]
        deletion = gateway.bus.sent[0].message
    assert (response.status_code, response.json()["contactId"]) == (202, str(ID))
    assert requested_subjects == [ANALYTICS_DELETE_PERSON.subject, INGEST_ERASE.subject]
    assert deletion == DeletePerson([str(ID), str(UUID(int=7)), "u_42", "a@b.c"])


@pytest.mark.parametrize("query", ["", "?posthog=false"])
async def test_an_erasure_keeps_the_person_in_posthog_unless_its_deletion_is_requested(
    query: str,
) -> None:
    async with fake_gateway() as gateway:
        gateway.bus.reply_with(INGEST_ERASE, ERASURE)
        response = await gateway.http.delete(f"{ERASE}{query}", headers=bearer())
        requests = [request.subject for request in gateway.bus.sent]
    assert (response.status_code, requests) == (202, [INGEST_ERASE.subject])


@pytest.mark.parametrize("erased", [False, True])
async def test_an_id_merged_in_during_the_deletion_is_deleted_in_posthog_too(
    erased: bool,
) -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        merged = page({"value": "u_1"}, {"value": "u_2"})
        pages.replies["keys", None] = page({"value": "u_1"})
        pages.later_replies["keys", None] = NotFound("there is no contact") if erased else merged
        gateway.bus.reply_with(ANALYTICS_DELETE_PERSON, PersonDeletion())
        gateway.bus.reply_with(INGEST_ERASE, ERASURE)
        response = await gateway.http.delete(f"{ERASE}?posthog=true", headers=bearer())
        *deletions, last = [request.message for request in gateway.bus.sent]
    assert (response.status_code, last) == (202, EraseContact(contact_id=ID))
    first = DeletePerson([str(ID), "u_1"])
    assert deletions == ([first] if erased else [first, DeletePerson(["u_2"])])


@pytest.mark.parametrize(
    ("reason", "status"), [("precondition", 409), ("posthog", 502), ("down", 503), ("gone", 409)]
)
async def test_a_contact_is_not_erased_when_posthog_did_not_delete_the_person(
    reason: Any, status: int
) -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        refusal = Refusal(reason=reason, code="c", detail="d", remediation="r")
        responses: dict[str, Any] = {"down": Unavailable("down")}
        gateway.bus.reply_with(
            ANALYTICS_DELETE_PERSON, responses.get(reason, PersonDeletion(refusal))
        )
        if reason == "gone":
            pages.replies[("keys", None)] = NotFound("there is no contact")
        response = await gateway.http.delete(f"{ERASE}?posthog=true", headers=bearer())
        requested = {request.subject for request in gateway.bus.sent}
    assert response.status_code == status
    assert INGEST_ERASE.subject not in requested
    assert reason == "down" or response.json()["remediation"]

"""Export and erasure of a person over HTTP: pages of ingest as one document, PostHog first."""

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
    """What ingest answers, by part and position; a part that is not there is empty."""

    def __init__(self, bus: FakeConnection) -> None:
        self.answers: dict[tuple[str, str | None], ExportPage | Exception] = {
            ("contact", None): page({"id": str(ID)})
        }
        self.meanwhile: dict[tuple[str, str | None], ExportPage | Exception] = {}
        """What it answers once another service was asked."""
        self.asked: list[ExportContact] = []
        self._ask = bus.request
        bus.request = self.request  # type: ignore[method-assign]

    async def request(self, endpoint: Endpoint[Any, Any], message: Any, **options: Any) -> Any:
        if endpoint is not INGEST_EXPORT:
            self.answers |= self.meanwhile
            return await self._ask(endpoint, message, **options)
        wanted = cast("ExportContact", message)
        self.asked.append(wanted)
        response = self.answers.get((wanted.part, wanted.after), page())
        if isinstance(response, Exception):
            raise response
        return response


def page(*items: Any, following: str | None = None, **counts: int) -> ExportPage:
    raw = [msgspec.Raw(json.dumps(item).encode()) for item in items]
    return ExportPage(items=raw, counts=counts, next=following)


async def test_pages_become_one_document() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        pages.answers |= {
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
    assert {wanted.contact_id for wanted in pages.asked} == {ID}


async def test_an_export_is_recorded_and_the_read_key_gets_none() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        assert (await gateway.http.get(URL, headers=bearer())).status_code == 200
        asked = len(pages.asked)
        refused = await gateway.http.get(URL, headers=bearer(READ_KEY))
        assert (refused.status_code, len(pages.asked)) == (403, asked)
        assert (await gateway.http.get(PREVIEW, headers=bearer(READ_KEY))).status_code == 403
        await gateway.http.get(PREVIEW, headers=bearer())
        entries = [
            msgspec.json.decode(message.body)
            for message in gateway.bus.published.messages
            if message.subject == subjects.AUDIT
        ]
    assert [(one["action"], one["resource"], one["status"]) for one in entries] == [
        ("contacts.get", f"{ID}/export", 200),
        ("contacts.get", f"{ID}/export", 403),
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("ingest is away"), {"log_level": "warning", "reason": "ingest is away"}),
        (RuntimeError("a fault"), {"log_level": "error"}),
    ],
)
async def test_an_export_that_is_cut_off_is_logged_and_counted(
    error: Exception, said: dict[str, str]
) -> None:
    counted = FAILURES.labels("answer", type(error).__name__)
    before = counted._value.get()
    async with fake_gateway() as gateway:
        Pages(gateway.bus).answers[("events", None)] = error
        with capture_logs() as lines:
            await gateway.http.get(URL, headers=bearer())
    (line,) = [line for line in lines if line["event"] == "a response was cut off"]
    assert said.items() <= line.items()
    assert line["route"].endswith("/export")
    assert counted._value.get() == before + 1


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("there is no contact"), 404), (Unavailable("down"), 503)]
)
async def test_what_fails_at_the_beginning_is_answered_as_an_error(
    error: HogsendError, status: int
) -> None:
    async with fake_gateway() as gateway:
        Pages(gateway.bus).answers[("contact", None)] = error
        response = await gateway.http.get(URL, headers=bearer())
    assert response.status_code == status


async def test_what_fails_later_leaves_the_document_without_its_end() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        pages.answers |= {
            ("events", None): page({"n": 1}, following="b"),
            ("events", "b"): Unavailable("down"),
        }
        response = await gateway.http.get(URL, headers=bearer())
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.content)


async def test_a_preview_adds_up_the_pages_and_asks_for_numbers_only() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        pages.answers |= {
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
    assert all(wanted.only_count for wanted in pages.asked)


ERASE = f"/v1/admin/contacts/{ID}"
ERASURE = Erasure(
    id="e",
    contact_id=str(ID),
    requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    finished_at=None,
    events=0,
    messages=0,
)


async def test_posthog_deletes_first_by_everything_that_is_known() -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        pages.answers |= {
            # It was asked for by the id of one that was merged into it.
            ("contact", None): page({"id": str(UUID(int=7)), "email": "a@b.c"}),
            ("keys", None): page({"kind": "external", "value": "u_42"}, following="b"),
            ("keys", "b"): page({"kind": "email", "value": "a@b.c"}),
        }
        gateway.bus.reply_with(ANALYTICS_DELETE_PERSON, PersonDeletion())
        gateway.bus.reply_with(INGEST_ERASE, ERASURE)
        response = await gateway.http.delete(f"{ERASE}?posthog=true", headers=bearer())
        subjects_asked = [question.subject for question in gateway.bus.sent]
        asked = gateway.bus.sent[0].message
    assert (response.status_code, response.json()["contactId"]) == (202, str(ID))
    assert subjects_asked == [ANALYTICS_DELETE_PERSON.subject, INGEST_ERASE.subject]
    assert asked == DeletePerson([str(ID), str(UUID(int=7)), "u_42", "a@b.c"])


@pytest.mark.parametrize("erased", [False, True])
async def test_an_id_that_is_merged_in_while_posthog_deletes_is_deleted_there_too(
    erased: bool,
) -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        merged = page({"value": "u_1"}, {"value": "u_2"})
        pages.answers["keys", None] = page({"value": "u_1"})
        pages.meanwhile["keys", None] = NotFound("there is no contact") if erased else merged
        gateway.bus.reply_with(ANALYTICS_DELETE_PERSON, PersonDeletion())
        gateway.bus.reply_with(INGEST_ERASE, ERASURE)
        response = await gateway.http.delete(f"{ERASE}?posthog=true", headers=bearer())
        *asked, last = [question.message for question in gateway.bus.sent]
    assert (response.status_code, last) == (202, EraseContact(contact_id=ID))
    first = DeletePerson([str(ID), "u_1"])
    assert asked == ([first] if erased else [first, DeletePerson(["u_2"])])


@pytest.mark.parametrize(
    ("reason", "status"), [("precondition", 409), ("posthog", 502), ("down", 503), ("gone", 409)]
)
async def test_what_posthog_does_not_delete_is_not_erased_here(reason: Any, status: int) -> None:
    async with fake_gateway() as gateway:
        pages = Pages(gateway.bus)
        refusal = Refusal(reason=reason, code="c", detail="d", remediation="r")
        responses: dict[str, Any] = {"down": Unavailable("down")}
        gateway.bus.reply_with(
            ANALYTICS_DELETE_PERSON, responses.get(reason, PersonDeletion(refusal))
        )
        if reason == "gone":
            pages.answers[("keys", None)] = NotFound("there is no contact")
        response = await gateway.http.delete(f"{ERASE}?posthog=true", headers=bearer())
        asked = {question.subject for question in gateway.bus.sent}
    assert response.status_code == status
    assert INGEST_ERASE.subject not in asked
    assert reason == "down" or response.json()["remediation"]

"""Which messages and events an erasure deletes, and how its sweeps are repeated."""

from __future__ import annotations

import asyncio
import base64
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import nats.errors
import pytest
from nats.js.errors import ServiceUnavailableError
from structlog.testing import capture_logs

from hogsend.contract.dead_letters import DeadLetter, write_large_letter
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import CE_TIME, RECEIVED_AT, format_time
from hogsend.contract.streams import PERSONAL_DATA_STREAMS, StreamName
from hogsend.service import metrics
from hogsend.service.tasks import cancel_all
from services.ingest.contacts.contact import EMAIL, EXTERNAL, Key
from services.ingest.erasure import sweep as sweeping
from services.ingest.erasure import worker
from services.ingest.erasure.jobs import CLAIM_SECONDS, Job
from services.ingest.erasure.person import Person, identities_in
from services.ingest.erasure.sweep import SWEPT, Erased, find_messages, is_to_erase
from services.ingest.erasure.sweep import sweep as sweep_streams
from services.ingest.erasure.tombstones import is_erased
from services.ingest.erasure.worker import ErasureWorker
from services.ingest.export import items
from services.ingest.stored_messages import StoredMessage
from tests.unit.ingest.fakes import FakePublisher, Journal, incoming
from tests.virtual_time import on_virtual_time

ADA = Person(frozenset({"u_42"}), frozenset({"ada@example.com"}))
TWO_ADDRESSES = "ben@example.com, ada@example.com"


def is_subject(person: Person, subject: str, body: bytes) -> bool:
    """Whether a message is about a person."""
    return person.is_named_in(identities_in(subject, body))


ERASED_AT = datetime(2026, 1, 2, tzinfo=UTC)
JOB = Job(
    id=UUID(int=1),
    contact_id=UUID(int=2),
    contact_ids=[UUID(int=2)],
    person=ADA,
    requested_at=ERASED_AT,
    is_swept=False,
)
BEFORE, AFTER = ERASED_AT - timedelta(hours=1), ERASED_AT + timedelta(hours=1)


@pytest.mark.parametrize(
    "message",
    [
        {"event": {"event": "x", "distinct_id": "u_42"}},
        {
            "event": {"event": "x", "distinct_id": "n"},
            "person": {"properties": {"email": "ADA@example.com "}},
        },
        {"event": "x", "userId": "u_42", "contactKey": "u_1"},
        {"event": "x", "userId": "", "email": "ada@example.com"},
        {"event": "x", "userId": "", "personProperties": {"email": "ada@example.com"}},
        {"data": {"userId": "u_42", "to": "x@example.com"}},
        {"data": {"to": "Ada@Example.com"}},
        {"data": {"to": "Ada <Ada@Example.com>"}},
        {"data": {"id": "u_42"}},
        {"distinctId": "ben", "data": {"id": "u_42"}},
        {"distinctId": "u_42", "set": {}},
        {"distinctId": "u_1", "alias": "u_42"},
    ],
)
def test_a_message_is_about_the_person_whom_it_names(message: dict[str, Any]) -> None:
    assert is_subject(ADA, "", msgspec.json.encode(message))


@pytest.mark.parametrize(
    "message",
    [
        {"event": {"event": "x", "distinct_id": "u_421"}},
        {
            "event": {
                "event": "invited",
                "distinct_id": "ben",
                "properties": {"email": "ada@example.com"},
            }
        },
        {"event": "u_42", "userId": "ben"},
        {"event": None, "data": 7, "userId": "anonymous", "person": "u_42"},
        {"distinctId": True, "set": {"name": "u_421"}},
    ],
)
def test_a_message_that_names_another_person_is_not_about_the_erased_person(message: Any) -> None:
    assert not is_subject(ADA, "", msgspec.json.encode(message))


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("", ["u_42"]),
        ("", "u_42"),
        ("", {"event": None, "data": 7, "person": "u_42"}),
        ("hogsend.webhooks.posthog", {"batch": [{"event": "x", "distinct_id": "u_42"}]}),
        (
            "hogsend.webhooks.posthog",
            {"event": {"distinct_id": " ", "properties": {"$id": "u_42"}}},
        ),
        ("hogsend.engagement.email.sent", [{"data": {"userId": "u_42"}}]),
        ("hogsend.engagement.impact.digest", [{"data": {"userId": "u_42"}}]),
        ("hogsend.events.x", ["u_42"]),
        ("hogsend.engagement.email.sent", {"data": {"recipient": "Ada@Example.com"}}),
        ("hogsend.persons.set", [{"distinctId": "u_42", "set": {"plan": "pro"}}]),
    ],
)
def test_a_message_without_an_identity_is_searched_as_text(subject: str, message: Any) -> None:
    """It becomes a dead letter, which would keep the person's data for thirty days."""
    body = msgspec.json.encode(message)
    assert is_subject(ADA, subject, body)
    whole = msgspec.json.encode(letter(body, subject=subject))
    assert is_to_erase(StreamName.DEADLETTER, StoredMessage(1, BEFORE, whole), ADA, ERASED_AT)
    other_person = Person(frozenset({"u_4"}), frozenset({"ben@example.com"}))
    assert not is_subject(other_person, subject, body)


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("hogsend.webhooks.posthog", {"event": {"event": "x", "distinct_id": 42}}),
        ("hogsend.engagement.email.sent", {"data": {"userId": 42}}),
        ("hogsend.persons.set", {"distinctId": 42, "set": {"plan": "pro"}}),
    ],
)
def test_an_id_that_is_written_as_a_number_identifies_the_person(
    subject: str, message: dict[str, Any]
) -> None:
    body = msgspec.json.encode(message)
    assert is_subject(Person(frozenset({"42"}), frozenset()), subject, body)
    assert not is_subject(Person(frozenset({"4", "421", "True"}), frozenset()), subject, body)


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("hogsend.persons.alias", {"distinctId": ["u_41", "u_42"], "alias": "ben"}),
        ("hogsend.engagement.email.sent", {"data": {"to": ["Ada@Example.com", "ben@example.com"]}}),
        ("hogsend.webhooks.posthog", {"event": {"distinct_id": [42], "userId": "ben"}}),
    ],
)
def test_each_id_or_address_of_a_list_identifies_a_person(
    subject: str, message: dict[str, Any]
) -> None:
    body = msgspec.json.encode(message)
    ada = Person(frozenset({"u_42", "42"}), frozenset({"ada@example.com"}))
    assert is_subject(ada, subject, body)
    other_person = Person(frozenset({"u_4", "4"}), frozenset({"da@example.com"}))
    assert not is_subject(other_person, subject, body)


EVENT = "hogsend.events.x"
REPORT = "hogsend.engagement.{}".format


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        # `id` is the id of the event. It may be a number, and equal a user id.
        (EVENT, {"id": "u_42", "event": "x", "userId": "ben", "contactKey": "ben"}),
        # The two were one contact when the event happened, and have been separated since.
        (EVENT, {"event": "x", "userId": "ben", "contactKey": "u_42"}),
        ("hogsend.webhooks.posthog", {"event": {"id": "u_42", "distinct_id": "ben"}}),
        (REPORT("email.sent"), {"id": "u_42", "data": {"userId": "ben"}}),
        (REPORT("email.sent"), {"data": {"userId": "ben", "to": "ada@example.com"}}),
        (REPORT("email.sent"), {"data": {"userId": "ben", "id": "u_42", "anonymousId": "u_42"}}),
    ],
)
def test_a_message_is_not_about_a_person_to_whom_its_event_is_not_attributed(
    subject: str, message: dict[str, Any]
) -> None:
    body = msgspec.json.encode(message)
    assert not is_subject(ADA, subject, body)
    whole = msgspec.json.encode(letter(body, subject=subject))
    assert not is_to_erase(StreamName.DEADLETTER, StoredMessage(1, BEFORE, whole), ADA, ERASED_AT)


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (EVENT, {"event": "x", "userId": "anonymous", "contactKey": "u_42"}),
        ("hogsend.replays.1f", {"event": "x", "userId": "", "contactKey": "u_42"}),
        (EVENT, {"event": "x", "userId": "ben", "email": "ada@example.com"}),
        (EVENT, {"userId": "ben", "personProperties": {"email": "ada@example.com"}}),
        (REPORT("email.sent"), {"data": {"userId": "anonymous", "to": "ada@example.com"}}),
        (REPORT("email.sent"), {"data": {"userId": "anonymous", "anonymousId": "u_42"}}),
        (REPORT("email.sent"), {"data": {"userEmail": "ada@example.com"}}),
        (REPORT("contact.updated"), {"data": {"externalId": "ben", "email": "ada@example.com"}}),
        (REPORT("contact.updated"), {"data": {"id": "u_42"}}),
    ],
)
def test_a_message_is_about_the_person_to_whom_its_event_is_attributed(
    subject: str, message: dict[str, Any]
) -> None:
    assert is_subject(ADA, subject, msgspec.json.encode(message))


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (REPORT("impact.digest"), {"data": {"journeys": ["42"], "text": "42"}}),
        (REPORT("webhook.test"), {"data": {"endpointId": "42"}}),
        (EVENT, {"event": "x", "userId": "", "contactKey": "", "properties": {"plan": "42"}}),
    ],
)
def test_a_report_about_no_person_is_not_erased_although_its_text_contains_an_id(
    subject: str, message: dict[str, Any]
) -> None:
    person = Person(frozenset({"42"}), frozenset())
    body = msgspec.json.encode(message)
    assert not is_subject(person, subject, body)
    whole = msgspec.json.encode(letter(body, subject=subject))
    assert not is_to_erase(
        StreamName.DEADLETTER, StoredMessage(1, BEFORE, whole), person, ERASED_AT
    )
    # A field that identifies the person of a message counts nevertheless.
    if "data" in message:
        message["data"]["userId"] = "42"
    else:
        message["contactKey"] = "42"
    assert is_subject(person, subject, msgspec.json.encode(message))


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (REPORT("impact.digest"), {"data": {"text": "Most clicks: Ada@example.com (12)"}}),
        (REPORT("webhook.test"), {"data": {"recipients": ["ada@example.com"]}}),
        # A report with two addresses in one field is stored without a contact.
        (EVENT, {"event": "email.sent", "userId": "", "properties": {"to": TWO_ADDRESSES}}),
    ],
)
def test_a_message_about_no_person_is_erased_if_its_text_contains_the_address(
    subject: str, message: dict[str, Any]
) -> None:
    body = msgspec.json.encode(message)
    assert is_subject(ADA, subject, body)
    whole = msgspec.json.encode(letter(body, subject=subject))
    assert is_to_erase(StreamName.DEADLETTER, StoredMessage(1, BEFORE, whole), ADA, ERASED_AT)
    other = body.replace(b"Ada@", b"wada@").replace(b"ada@", b"wada@")
    assert not is_subject(ADA, subject, other)


def test_a_body_that_cannot_be_parsed_is_searched_as_text() -> None:
    assert is_subject(ADA, "", b'{"event": {"distinct_id": "u_42"')
    assert is_subject(ADA, "", b"\xff Ada@example.com")
    assert not is_subject(ADA, "", b'{"event": {"distinct_id": "u_421"')


@pytest.mark.parametrize(
    "text",
    [
        *('"Ada@example.com"', "Ada <ada@example.com>", "mailto:ada@example.com?subject=x"),
        *("to ada@example.com.", "'ada@example.com'", "ben@example.com,ada@example.com"),
        *("Hi\nada@example.com", "x\tada@example.com\n", "wada@example.com and ada@example.com"),
        *("https://example.com/?to=ada@example.com", "ada@example.com\uff0c", "(ada@example.com)"),
    ],
)
def test_an_address_is_recognized_inside_text(text: str) -> None:
    body = msgspec.json.encode({"data": {"recipient": text}})
    assert is_subject(ADA, "hogsend.engagement.email.sent", body)


@pytest.mark.parametrize(
    "address",
    [
        *("wada@example.com", "w.ada@example.com", "w+ada@example.com", "w-ada@example.com"),
        *(
            "ada@example.com.au",
            "ada@example.community",
            "ada@example.com-x.de",
            "\u00e9ada@example.com",
        ),
        *("o'ada@example.com", "w_ada@example.com"),
    ],
)
def test_a_longer_address_that_contains_the_persons_address_does_not_match(address: str) -> None:
    for data in ({"recipient": address}, {"text": f"to\n{address}."}):
        body = msgspec.json.encode([{"data": data}])
        assert not is_subject(ADA, "hogsend.engagement.email.sent", body)
        assert not is_subject(ADA, "", body[:-2])


@pytest.mark.parametrize("id", ["jos\u00e9", "\U0001f600", 'a"b\\c', "tab\t", "\x01", "\u2028"])
@pytest.mark.parametrize("write", [json.dumps, lambda text: msgspec.json.encode(text).decode()])
def test_an_id_with_escaped_characters_is_recognized_in_a_body_that_cannot_be_parsed(
    id: str, write: Callable[[str], str]
) -> None:
    person = Person(frozenset([id]), frozenset())
    assert is_subject(person, "", f'{{"event": {{"distinct_id": {write(id)}'.encode())
    assert not is_subject(person, "", f'{{"event": {{"distinct_id": {write(id + "1")}'.encode())


def test_a_message_that_was_published_after_the_erasure_is_kept() -> None:
    body = b'{"data":{"userId":"u_42"}}'
    for stream in (StreamName.WEBHOOKS, StreamName.ENGAGEMENT, StreamName.PERSONS):
        assert is_to_erase(stream, StoredMessage(1, BEFORE, body), ADA, ERASED_AT)
        assert not is_to_erase(stream, StoredMessage(1, AFTER, body), ADA, ERASED_AT)


def test_an_event_that_was_published_after_the_erasure_is_judged_by_its_own_time() -> None:
    for happened, is_erased_message in ((BEFORE, True), (AFTER, False)):
        event = {"userId": "u_42", "occurredAt": happened, "receivedAt": AFTER}
        message = StoredMessage(1, AFTER, msgspec.json.encode(event))
        assert is_to_erase(StreamName.EVENTS, message, ADA, ERASED_AT) is is_erased_message


@pytest.mark.parametrize(
    "body",
    [
        rb'{"distinctId": "u\u000042"}',
        rb'{"distinctId": "u\ud83d42"}',
        b'{"distinctId": "u\xef\xbf\xbd42"}',
        rb'{"data": {"to": "A\u0000@b.com"}}',
        # A truncated body is searched as text.
        rb'{"event": {"distinct_id": "u\u000042", "ev',
        rb'{"event": {"distinct_id": "u\ud83d42", "ev',
        b'{"event": {"distinct_id": "u\x0042", "ev',
    ],
)
def test_an_id_that_postgresql_cannot_store_is_recognized_by_its_stored_form(body: bytes) -> None:
    person = Person(frozenset({"u\ufffd42"}), frozenset({"a\ufffd@b.com"}))
    assert is_subject(person, "", body)
    assert not is_subject(ADA, "", body)


@pytest.mark.parametrize(("id", "is_about"), [("u_42", True), ("u_43", False)])
def test_a_body_too_large_to_decode_is_searched_as_text_and_exported_in_base64(
    id: str, is_about: bool
) -> None:
    body = b'{"distinctId":"%b","a":[0%b]}' % (id.encode(), b",[[[[]]]]" * 600_000)
    assert is_subject(ADA, "", body) is is_about
    message = StoredMessage(1, AFTER, body)
    tracemalloc.start()
    try:
        assert is_subject(ADA, "", body) is is_about
        exported = items.message(StreamName.PERSONS, message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(body)
    assert b'"bodyBase64":' in exported


def test_the_time_of_an_event_with_a_lone_surrogate_is_read() -> None:
    body = rb'{"userId": "u_42", "name": "\ud83d", "occurredAt": "2026-01-01T00:00:00Z"}'
    message = StoredMessage(1, AFTER, body)
    assert is_to_erase(StreamName.EVENTS, message, ADA, ERASED_AT)


@pytest.mark.parametrize("stream", [StreamName.ENGAGEMENT, StreamName.PERSONS])
@pytest.mark.parametrize("time_in", ["body", "headers"])
def test_a_report_that_was_published_after_the_erasure_is_judged_by_its_own_time(
    stream: StreamName, time_in: str
) -> None:
    """Such a report was stored by ingest before the erasure, or is a replayed dead letter."""
    for happened, is_erased_message in ((BEFORE, True), (AFTER, False)):
        message: dict[str, Any] = {"data": {"userId": "u_42"}, "distinctId": "u_42"}
        headers: dict[str, str] = {}
        if time_in == "body":
            message["timestamp"] = happened
        else:
            headers = {CE_TIME: format_time(happened)}
        stored = StoredMessage(1, AFTER, msgspec.json.encode(message), headers)
        assert is_to_erase(stream, stored, ADA, ERASED_AT) is is_erased_message


def letter(
    body: bytes,
    *,
    headers: dict[str, str] | None = None,
    subject: str = "s",
) -> DeadLetter:
    return DeadLetter(
        id="x",
        stream="S",
        subject=subject,
        reason="malformed",
        detail="",
        attempts=1,
        failed_at=AFTER,
        headers=headers or {},
        body=body,
    )


@pytest.mark.parametrize("name", [RECEIVED_AT, CE_TIME])
def test_a_dead_letter_is_erased_by_the_time_of_its_message(name: str) -> None:
    for received, is_erased_message in ((BEFORE, True), (AFTER, False)):
        cut_off = b'{"event":{"distinct_id":"u_42"'
        whole = letter(cut_off, headers={name: format_time(received)})
        message = StoredMessage(1, AFTER, msgspec.json.encode(whole))
        assert is_to_erase(StreamName.DEADLETTER, message, ADA, ERASED_AT) is is_erased_message


@pytest.mark.parametrize("compressed", [False, True])
def test_a_large_dead_letter_is_erased_by_the_time_of_its_message(compressed: bool) -> None:
    cut_off = b'{"event":{"distinct_id":"u_42"' + b" " * 1000
    for received, is_erased_message in ((BEFORE, True), (AFTER, False)):
        whole = letter(cut_off, headers={RECEIVED_AT: format_time(received)})
        written = write_large_letter(whole, compressed=compressed)
        message = StoredMessage(1, AFTER, written.body, written.headers)
        assert is_to_erase(StreamName.DEADLETTER, message, ADA, ERASED_AT) is is_erased_message
        exported = msgspec.json.decode(items.message(StreamName.DEADLETTER, message))
        assert exported["reason"] == whole.reason
        assert base64.b64decode(exported["bodyBase64"]) == cut_off


def test_a_dead_letter_that_cannot_be_decompressed_is_searched_as_text() -> None:
    written = write_large_letter(letter(b"{}"), compressed=True)
    broken = StoredMessage(1, BEFORE, b'of "u_42"', written.headers)
    assert is_to_erase(StreamName.DEADLETTER, broken, ADA, ERASED_AT)


def test_every_stream_with_personal_data_is_swept() -> None:
    assert set(SWEPT) == set(PERSONAL_DATA_STREAMS)
    assert set(StreamName) - set(SWEPT) == {StreamName.AUDIT, StreamName.CREDENTIALS}


def test_an_event_from_before_the_erasure_is_not_stored_again() -> None:
    event = incoming("e1", user_id="u_42")
    at = event.effective_at
    for key in (Key(EXTERNAL, "u_42"),):
        assert is_erased(event, {key: at})
        assert not is_erased(event, {key: at - timedelta(microseconds=1)})
    assert not is_erased(event, {Key(EMAIL, "ben@example.com"): at})


class Jobs:
    """Returns or raises one of `claims` for each claim; deleting events always fails."""

    def __init__(self, *claims: Job | Exception) -> None:
        self._claims = list(claims)
        self.all_claimed = asyncio.Event()

    async def claim(self, *, announced: bool, limit: int) -> list[Job]:
        assert (announced, limit) == (True, worker.MAX_JOBS_PER_SWEEP)
        if not self._claims:
            self.all_claimed.set()
            return []
        claim = self._claims.pop(0)
        if isinstance(claim, Exception):
            raise claim
        return [claim]

    async def delete_events(self, _: Job) -> int:
        raise UNAVAILABLE


class Counted(Jobs):
    """Deletes one event for each job, and records the counts of deleted messages."""

    def __init__(self, *claims: Job | Exception) -> None:
        super().__init__(*claims)
        self.messages: list[tuple[str, int]] = []

    async def delete_events(self, _: Job) -> int:
        return 1

    async def record_deleted(self, _: Job, *, messages: int) -> None:
        self.messages.append(("deleted", messages))

    async def record_sweep(self, job: Job, *, messages: int) -> bool:
        self.messages.append(("swept", messages))
        return job.is_swept


UNAVAILABLE = Unavailable("PostgreSQL is not available")


@pytest.mark.parametrize(
    ("claims", "levels"),
    [
        ((UNAVAILABLE,), ["debug"]),
        ((JOB,), ["warning"]),
        ((JOB, UNAVAILABLE), ["warning", "debug"]),
    ],
    ids=["claim fails", "job fails", "job fails, then claim fails"],
)
async def test_a_failed_erasure_is_a_warning_and_a_failed_claim_a_debug_line(
    claims: tuple[Job | Exception, ...], levels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.0)
    jobs: Any = Jobs(*claims)
    nothing: Any = None
    failures = metrics.FAILURES.labels("erasure", "Unavailable")._value
    before = failures.get()
    with capture_logs() as logged:
        working = asyncio.create_task(ErasureWorker(jobs, nothing, nothing).sweep_forever())
        await jobs.all_claimed.wait()
        working.cancel()
    logged_levels = [line["log_level"] for line in logged if "erasure" in line["event"]]
    assert logged_levels == levels
    assert failures.get() - before == levels.count("warning")


async def test_messages_that_a_failed_sweep_deleted_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweeps = iter([(2, True), (1, False)])

    async def sweep(_link: object, erased: Sequence[Erased]) -> AsyncIterator[Sequence[Erased]]:
        count, fails = next(sweeps)
        for _ in range(count):
            yield erased
        if fails:
            raise Unavailable("JetStream did not answer")

    monkeypatch.setattr(worker, "sweep", sweep)
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.0)
    jobs: Any = Counted(JOB, JOB)
    nothing: Any = None
    working = asyncio.create_task(ErasureWorker(jobs, nothing, nothing).sweep_forever())
    await jobs.all_claimed.wait()
    working.cancel()
    assert jobs.messages == [("deleted", 2), ("swept", 1)]


class Renewed(Counted):
    """Records the renewals of jobs; the first one fails because PostgreSQL is unavailable."""

    def __init__(self, *claims: Job | Exception) -> None:
        super().__init__(*claims)
        self.renewals: list[tuple[UUID, bool]] = []

    async def renew(self, jobs: Sequence[Job], *, announced: bool) -> None:
        self.renewals += [(job.id, announced) for job in jobs]
        if len(self.renewals) == 1:
            raise UNAVAILABLE


@on_virtual_time
async def test_the_claim_on_a_job_is_renewed_during_a_long_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def sweep(_link: object, erased: Sequence[Erased]) -> AsyncIterator[Sequence[Erased]]:
        await asyncio.sleep(3 * CLAIM_SECONDS)
        yield erased

    monkeypatch.setattr(worker, "sweep", sweep)
    jobs: Any = Renewed(JOB)
    nothing: Any = None
    working = asyncio.create_task(ErasureWorker(jobs, nothing, nothing).sweep_forever())
    await jobs.all_claimed.wait()
    renewals = list(jobs.renewals)
    assert len(renewals) > 3
    assert set(renewals) == {(JOB.id, True)}
    await asyncio.sleep(CLAIM_SECONDS)
    assert jobs.renewals == renewals
    assert jobs.messages == [("swept", 1)]
    await cancel_all(working)


class Several:
    """Erasures of several people, of which some are announced and some only requested."""

    def __init__(self, announced: Sequence[Job], requested: Sequence[Job]) -> None:
        self._waiting = {True: [*announced], False: [*requested]}
        self.without_events: list[UUID] = []
        self.failing: set[UUID] = set()
        """Ids of jobs whose events cannot be deleted."""
        self.messages: dict[UUID, int] = {}
        self.all_announced = asyncio.Event()
        self.all_swept = asyncio.Event()

    async def claim(self, *, announced: bool, limit: int) -> list[Job]:
        waiting = self._waiting[announced]
        if not waiting:
            (self.all_swept if announced else self.all_announced).set()
        claimed, self._waiting[announced] = waiting[:limit], waiting[limit:]
        return claimed

    async def delete_events(self, job: Job) -> int:
        if job.id in self.failing:
            raise UNAVAILABLE
        self.without_events.append(job.id)
        return 1

    async def mark_announced(self, _: Job) -> None:
        """Do nothing: other tests cover the sweep that follows."""

    async def record_sweep(self, job: Job, *, messages: int) -> bool:
        self.messages[job.id] = messages
        return job.is_swept


def job_of(number: int, *names: str) -> Job:
    person = Person(frozenset(names), frozenset())
    return msgspec.structs.replace(JOB, id=UUID(int=number), person=person)


async def test_a_requested_erasure_starts_while_the_sweep_of_another_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweeping, may_continue = asyncio.Event(), asyncio.Event()

    async def sweep(_link: object, _erased: Sequence[Erased]) -> AsyncIterator[Sequence[Erased]]:
        sweeping.set()
        await may_continue.wait()
        yield ()

    monkeypatch.setattr(worker, "sweep", sweep)
    jobs: Any = Several([job_of(1, "ada")], [job_of(2, "ben"), job_of(3, "cyd")])
    publisher = FakePublisher(Journal())
    link: Any = None
    eraser = ErasureWorker(jobs, link, publisher)
    swept = asyncio.create_task(eraser.sweep_forever())
    await sweeping.wait()
    starting = asyncio.create_task(eraser.start_forever())
    await jobs.all_announced.wait()
    assert jobs.without_events == [UUID(int=1), UUID(int=2), UUID(int=3)]
    assert len(publisher.published) == 2
    assert jobs.messages == {}
    await cancel_all(swept, starting)


async def test_one_sweep_reads_the_streams_for_all_waiting_erasures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = 0

    async def sweep(_link: object, erased: Sequence[Erased]) -> AsyncIterator[Sequence[Erased]]:
        nonlocal reads
        reads += 1
        yield erased
        yield erased[1:]

    monkeypatch.setattr(worker, "sweep", sweep)
    jobs: Any = Several([job_of(1, "ada"), job_of(2, "ben"), job_of(3, "cyd")], [])
    # This job alone fails, and keeps waiting.
    jobs.failing = {UUID(int=2)}
    nothing: Any = None
    working = asyncio.create_task(ErasureWorker(jobs, nothing, nothing).sweep_forever())
    await jobs.all_swept.wait()
    assert jobs.messages == {UUID(int=1): 1, UUID(int=3): 2}
    assert reads == 1
    await cancel_all(working)


class Unanswered:
    """A connection on which requests for the state of a stream fail."""

    connected = True

    def __init__(self, error: Exception) -> None:
        self.js = self.refusals = self
        self._error = error

    async def stream_info(self, _stream: StreamName) -> None:
        raise self._error

    async def wait_unless_refused(self, _subject: str, request: Awaitable[None]) -> None:
        await request


@pytest.mark.parametrize(
    "error",
    [
        nats.errors.TimeoutError(),
        nats.errors.NoRespondersError(),
        ServiceUnavailableError(),
        OSError("connection reset"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_stream_that_cannot_be_read_makes_an_erasure_and_an_export_wait(
    error: Exception,
) -> None:
    """Any other error would end the task that sweeps."""
    link: Any = Unanswered(error)
    with pytest.raises(Unavailable):
        await anext(sweep_streams(link, [Erased(ADA, ERASED_AT)]))
    with pytest.raises(Unavailable):
        await find_messages(link, stream=None, first=1, person=ADA)


async def test_a_search_for_messages_ends_once_it_has_found_enough_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = b'{"distinctId": "u_42"}'

    async def one_message(_link: object, _stream: StreamName, first: int) -> list[StoredMessage]:
        return [StoredMessage(first, BEFORE, body)]

    monkeypatch.setattr(sweeping, "_batch_within_range", one_message)
    monkeypatch.setattr(sweeping, "BATCH_BYTES", 2 * len(body))
    link: Any = Unanswered(AssertionError("not requested"))
    found = await find_messages(link, stream="PERSONS", first=7, person=ADA)
    assert [message.sequence for _, message in found.messages] == [7, 8, 9]
    assert found.next_position == "PERSONS/10"

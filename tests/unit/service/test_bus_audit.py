"""Changes that are asked for over the bus leave an entry in the audit trail, whoever asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hogsend.contract import subjects
from hogsend.contract.audit import AuditEntry
from hogsend.contract.base import Message
from hogsend.contract.contacts import INGEST_FILL_TIMEZONE, FillTimezone
from hogsend.contract.credentials import CREDENTIALS_DELETE, CREDENTIALS_GET, ProviderRef
from hogsend.contract.dead_letters import INGEST_PURGE, PurgeDeadLetters
from hogsend.contract.errors import BY_CODE, InvalidRequest, Unavailable
from hogsend.contract.registry import Endpoint, endpoints
from hogsend.contract.users import User
from hogsend.service.audit import AuditMiddleware
from hogsend.service.middlewares import ErrorReply

POSTHOG = ProviderRef(provider_id="posthog")
CHANGING = (
    *("put", "delete", "create", "change", "test", "replay", "purge", "split", "erase"),
    *("fill", "provision"),
)
"""What verbs of changes begin with."""


class Trail:
    """What is recorded of requests."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.down = False

    async def publish(self, subject: str, body: bytes, _headers: dict[str, str]) -> None:
        if self.down:
            raise Unavailable("NATS is not connected")
        assert subject == subjects.AUDIT
        self.entries.append(msgspec.json.decode(body, type=AuditEntry))

    async def ask(
        self,
        endpoint: Endpoint[Any, Any],
        request: Message | None,
        inbox: str,
        answer: object = "done",
    ) -> Any:
        """Ask as the user of an inbox; None is a request nobody can decode."""

        async def decode() -> Message:
            if request is None:
                raise InvalidRequest("no JSON")
            return request

        async def handle(_message: Any) -> object:
            return answer

        raw = SimpleNamespace(subject=endpoint.subject, reply=inbox)
        middleware = AuditMiddleware(
            raw, context=None, service=endpoint.service, publish=self.publish
        )
        message: Any = SimpleNamespace(decode=decode)
        return await middleware.consume_scope(handle, message)


async def test_an_operator_is_recorded_with_what_was_changed() -> None:
    trail = Trail()
    assert await trail.ask(CREDENTIALS_DELETE, POSTHOG, "_INBOX_operator.x.1") == "done"
    (entry,) = trail.entries
    assert (entry.actor, entry.action, entry.resource, entry.status) == (
        "nats:operator",
        "credentials.delete",
        "posthog",
        200,
    )


async def test_an_entry_about_a_person_does_not_say_what_they_are_known_by() -> None:
    # An erasure leaves the trail as it is.
    trail = Trail()
    zone = FillTimezone(user_id="ada@example.com", timezone="Asia/Tokyo")
    await trail.ask(INGEST_FILL_TIMEZONE, zone, "_INBOX_operator.x.1")
    (entry,) = trail.entries
    assert (entry.action, entry.resource) == ("ingest.fill-timezone", "")


async def test_the_gateway_has_recorded_it_already_and_reading_changes_nothing() -> None:
    trail = Trail()
    await trail.ask(CREDENTIALS_DELETE, POSTHOG, f"_INBOX_{User.GATEWAY}.x.1")
    await trail.ask(CREDENTIALS_GET, POSTHOG, "_INBOX_operator.x.1")
    assert trail.entries == []


@pytest.mark.parametrize("inbox", ["_INBOX.x.1", "_INBOX_.x", "_INBOX_gatewayx.1", "elsewhere"])
async def test_an_inbox_that_belongs_to_no_caller_does_not_hide_a_change(inbox: str) -> None:
    trail = Trail()
    await trail.ask(CREDENTIALS_DELETE, POSTHOG, inbox)
    assert len(trail.entries) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [*((error.code, error.status) for error in BY_CODE.values()), ("of another version", 500)],
)
async def test_what_was_refused_is_recorded_as_http_would_answer_it(code: str, status: int) -> None:
    trail = Trail()
    await trail.ask(INGEST_PURGE, PurgeDeadLetters(), "_INBOX_operator.1", ErrorReply(code, "no"))
    await trail.ask(INGEST_PURGE, None, "_INBOX_operator.1", ErrorReply(code, "no"))
    assert [(entry.status, entry.resource) for entry in trail.entries] == [(status, "")] * 2


async def test_an_entry_that_cannot_be_kept_does_not_take_the_answer_away() -> None:
    trail = Trail()
    trail.down = True
    assert await trail.ask(CREDENTIALS_DELETE, POSTHOG, "_INBOX_operator.1") == "done"


def test_every_change_of_the_contract_is_marked_and_its_resource_is_a_field() -> None:
    for endpoint in endpoints():
        if endpoint.verb.partition("-")[0] in CHANGING:
            assert endpoint.changes, f"{endpoint.subject} changes something, and does not say so"
        if endpoint.resource:
            assert endpoint.resource in endpoint.request.__struct_fields__, endpoint.subject

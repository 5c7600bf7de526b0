"""Changes that are requested over NATS get an entry in the audit trail."""

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
"""The first words of the verbs of changing endpoints."""


class Trail:
    """Sends requests through the middleware, and stores the audit entries."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.down = False

    async def publish(self, subject: str, body: bytes, _headers: dict[str, str]) -> None:
        if self.down:
            raise Unavailable("NATS is not connected")
        assert subject == subjects.AUDIT
        self.entries.append(msgspec.json.decode(body, type=AuditEntry))

    async def request(
        self,
        endpoint: Endpoint[Any, Any],
        request: Message | None,
        inbox: str,
        reply: object = "done",
    ) -> Any:
        """Send a request with this inbox; None is a request that cannot be decoded."""

        async def decode() -> Message:
            if request is None:
                raise InvalidRequest("no JSON")
            return request

        async def handle(_message: Any) -> object:
            return reply

        raw = SimpleNamespace(subject=endpoint.subject, reply=inbox)
        middleware = AuditMiddleware(
            raw, context=None, service=endpoint.service, publish=self.publish
        )
        message: Any = SimpleNamespace(decode=decode)
        return await middleware.consume_scope(handle, message)


async def test_an_operators_change_is_recorded_with_its_resource() -> None:
    trail = Trail()
    assert await trail.request(CREDENTIALS_DELETE, POSTHOG, "_INBOX_operator.x.1") == "done"
    (entry,) = trail.entries
    assert (entry.actor, entry.action, entry.resource, entry.status) == (
        "nats:operator",
        "credentials.delete",
        "posthog",
        200,
    )


async def test_an_entry_about_a_person_does_not_contain_their_ids() -> None:
    # An erasure of the person does not change the audit trail.
    trail = Trail()
    zone = FillTimezone(user_id="ada@example.com", timezone="Asia/Tokyo")
    await trail.request(INGEST_FILL_TIMEZONE, zone, "_INBOX_operator.x.1")
    (entry,) = trail.entries
    assert (entry.action, entry.resource) == ("ingest.fill-timezone", "")


async def test_requests_of_the_gateway_and_reads_are_not_recorded() -> None:
    trail = Trail()
    await trail.request(CREDENTIALS_DELETE, POSTHOG, f"_INBOX_{User.GATEWAY}.x.1")
    await trail.request(CREDENTIALS_GET, POSTHOG, "_INBOX_operator.x.1")
    assert trail.entries == []


@pytest.mark.parametrize("inbox", ["_INBOX.x.1", "_INBOX_.x", "_INBOX_gatewayx.1", "elsewhere"])
async def test_an_inbox_that_belongs_to_no_caller_does_not_hide_a_change(inbox: str) -> None:
    trail = Trail()
    await trail.request(CREDENTIALS_DELETE, POSTHOG, inbox)
    assert len(trail.entries) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [*((error.code, error.status) for error in BY_CODE.values()), ("of another version", 500)],
)
async def test_a_refused_change_is_recorded_with_the_http_status_of_its_error(
    code: str, status: int
) -> None:
    trail = Trail()
    await trail.request(
        INGEST_PURGE, PurgeDeadLetters(), "_INBOX_operator.1", ErrorReply(code, "no")
    )
    await trail.request(INGEST_PURGE, None, "_INBOX_operator.1", ErrorReply(code, "no"))
    assert [(entry.status, entry.resource) for entry in trail.entries] == [(status, "")] * 2


async def test_the_reply_is_sent_although_the_entry_cannot_be_stored() -> None:
    trail = Trail()
    trail.down = True
    assert await trail.request(CREDENTIALS_DELETE, POSTHOG, "_INBOX_operator.1") == "done"


def test_every_change_of_the_contract_is_marked_and_its_resource_is_a_field() -> None:
    for endpoint in endpoints():
        if endpoint.verb.partition("-")[0] in CHANGING:
            assert endpoint.changes, f"{endpoint.subject} changes something, and does not say so"
        if endpoint.resource:
            assert endpoint.resource in endpoint.request.__struct_fields__, endpoint.subject

"""Handlers on FastStream's test broker: no server, the same middlewares and injection."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from faststream import Context
from faststream.nats import TestNatsBroker
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from hogsend.contract import subjects
from hogsend.contract.conditions import EvaluateConditions
from hogsend.contract.contacts import ContactErased
from hogsend.contract.credentials import (
    CREDENTIALS_DELETE,
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_STATUS,
    CredentialChanged,
    Deleted,
    DerivedReply,
    ProviderRef,
)
from hogsend.contract.errors import HogsendError, InvalidRequest, NotFound, Unavailable
from hogsend.contract.headers import CORRELATION_ID
from hogsend.contract.streams import INGEST_CONSUMER, StreamName
from hogsend.contract.users import User
from hogsend.service.injection import Injected, NotProvided
from hogsend.service.router import ServiceRouter
from hogsend.service.subscribers.batches import BatchSubscriber
from hogsend.service.subscribers.decoding import decoder_of
from hogsend.service.subscribers.requests import HANDLER_SECONDS
from hogsend.transport.correlation import correlation_id
from tests.messages import credential_change
from tests.offline_broker import ask, offline_broker
from tests.virtual_time import now, on_virtual_time

REF = ProviderRef(provider_id="posthog")


class Memory:
    """Records the calls of the handlers that it is injected into."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.batches: list[list[bytes]] = []
        self.correlation: str | None = None


router = ServiceRouter()


@router.endpoint(CREDENTIALS_DELETE)
async def delete(request: ProviderRef, memory: Injected[Memory]) -> Deleted:
    memory.correlation = correlation_id.get()
    match request.provider_id:
        case "unknown":
            raise NotFound("there is none")
        case "defect":
            raise ValueError("secret detail")
        case "slow":
            raise TimeoutError
        case "stuck":
            await asyncio.Event().wait()
    memory.seen.append(request.provider_id)
    return Deleted(deleted=True)


@router.endpoint(CREDENTIALS_GET_DERIVED)
async def derived(
    request: ProviderRef, broker_user: Annotated[str, Context("user")], memory: Injected[Memory]
) -> DerivedReply:
    memory.seen.append(f"{broker_user}:{request.provider_id}")
    return DerivedReply(version=1, state="absent")


@router.batches(StreamName.WEBHOOKS, INGEST_CONSUMER)
async def webhooks(messages: list[Msg], memory: Injected[Memory]) -> None:
    memory.batches.append([message.data for message in messages])


@pytest.fixture
def memory() -> Memory:
    return Memory()


async def test_a_handler_is_called_with_its_request_and_its_dependencies(
    memory: Memory,
) -> None:
    broker = offline_broker(User.CREDENTIALS)
    broker.provide(memory)
    broker.include(router)
    async with TestNatsBroker(broker):
        assert await ask(broker, CREDENTIALS_DELETE, REF) == Deleted(deleted=True)
    assert memory.seen == ["posthog"]


@pytest.mark.parametrize(
    ("provider", "error", "text"),
    [
        ("unknown", NotFound, "there is none"),
        ("defect", HogsendError, "internal error"),
        ("slow", Unavailable, "the service took too long"),
    ],
)
async def test_an_error_is_replied_with_its_code(
    memory: Memory, provider: str, error: type[HogsendError], text: str
) -> None:
    broker = offline_broker(User.CREDENTIALS)
    broker.provide(memory)
    broker.include(router)
    async with TestNatsBroker(broker):
        with pytest.raises(error, match=text):
            await ask(broker, CREDENTIALS_DELETE, ProviderRef(provider_id=provider))
    stats = broker.stats.of(CREDENTIALS_DELETE.subject)
    assert (stats.requests, stats.errors) == (1, 1)
    assert stats.last_error == f"{error.code}:{text}"


@on_virtual_time
async def test_a_handler_that_does_not_end_is_cancelled_and_its_caller_gets_an_error(
    memory: Memory,
) -> None:
    """Otherwise it would keep one of the slots for requests."""
    broker = offline_broker(User.CREDENTIALS)
    broker.provide(memory)
    broker.include(router)
    async with TestNatsBroker(broker):
        reply = await broker.request(
            ProviderRef(provider_id="stuck"), CREDENTIALS_DELETE.subject, timeout=3600
        )
    assert reply.headers["Nats-Service-Error-Code"] == Unavailable.code
    assert now() == HANDLER_SECONDS


async def test_a_body_that_is_not_the_endpoints_request_is_refused(memory: Memory) -> None:
    broker = offline_broker(User.CREDENTIALS)
    broker.provide(memory)
    broker.include(router)
    async with TestNatsBroker(broker):
        for body in (b"", b"{", b"[]", b'{"providerId": ""}', b"\xff"):
            answer = await broker.request(body, CREDENTIALS_DELETE.subject)
            assert answer.headers["Nats-Service-Error-Code"] == "invalid_request"
    assert memory.seen == []


async def test_the_correlation_id_of_a_request_is_bound_around_its_handler(
    memory: Memory,
) -> None:
    broker = offline_broker(User.CREDENTIALS)
    broker.provide(memory)
    broker.include(router)
    async with TestNatsBroker(broker):
        await broker.request(REF, CREDENTIALS_DELETE.subject, headers={CORRELATION_ID: "req-1"})
    assert memory.correlation == "req-1"
    assert correlation_id.get() is None


async def test_an_invalid_correlation_id_is_not_bound(memory: Memory) -> None:
    broker = offline_broker(User.CREDENTIALS)
    broker.provide(memory)
    broker.include(router)
    async with TestNatsBroker(broker):
        await broker.request(
            REF, CREDENTIALS_DELETE.subject, headers={CORRELATION_ID: "x" * 1_000_000}
        )
    assert memory.seen
    assert memory.correlation is None


async def test_faststreams_own_context_is_injected_where_a_handler_asks_for_it(
    memory: Memory,
) -> None:
    broker = offline_broker(User.CREDENTIALS)
    broker.provide(memory)
    broker.context.set_global("user", "credentials")
    broker.include(router)
    async with TestNatsBroker(broker):
        reply = await ask(broker, CREDENTIALS_GET_DERIVED, REF)
    assert reply.state == "absent"
    assert memory.seen == ["credentials:posthog"]


async def test_a_batch_is_passed_to_its_handler_undecoded(memory: Memory) -> None:
    broker = offline_broker(User.INGEST)
    broker.provide(memory)
    broker.include(router)
    async with TestNatsBroker(broker):
        await broker.publish(b"anything", "hogsend.webhooks.posthog")
    assert memory.batches == [[b"anything"]]


class Unread(Msg):
    """A message that fails the test when its headers are read."""

    @property
    def headers(self) -> dict[str, str] | None:
        pytest.fail("they were read")

    @headers.setter
    def headers(self, headers: dict[str, str] | None) -> None:
        """Accept the headers that nats-py sets."""


async def test_a_batch_is_passed_to_its_handler_without_reading_headers(memory: Memory) -> None:
    broker = offline_broker(User.INGEST)
    broker.provide(memory)
    broker.include(router)
    (subscriber,) = (one for one in broker.subscribers if isinstance(one, BatchSubscriber))
    client: Any = None
    async with TestNatsBroker(broker):
        await subscriber.process_message([Unread(client, "s", data=b"1"), Unread(client, "s")])
    assert memory.batches == [[b"1", b""]]


async def test_two_brokers_in_one_process_have_their_own_handlers() -> None:
    first, second = Memory(), Memory()
    one, other = offline_broker(User.CREDENTIALS), offline_broker(User.CREDENTIALS)
    for broker, memory in ((one, first), (other, second)):
        broker.provide(memory)
        broker.include(router)
    async with TestNatsBroker(one), TestNatsBroker(other):
        await ask(one, CREDENTIALS_DELETE, ProviderRef(provider_id="first"))
        await ask(other, CREDENTIALS_DELETE, ProviderRef(provider_id="second"))
    assert (first.seen, second.seen) == (["first"], ["second"])


async def test_an_error_names_the_type_that_was_not_provided() -> None:
    broker = offline_broker(User.CREDENTIALS)
    broker.include(router)
    with pytest.raises(NotProvided, match=r"Memory: call broker.provide"):
        async with TestNatsBroker(broker):
            pass


async def test_a_handler_is_an_ordinary_function(memory: Memory) -> None:
    assert await delete(REF, memory) == Deleted(deleted=True)


def test_a_router_lists_its_endpoints() -> None:
    subjects = {endpoint.subject for endpoint in router.endpoints}
    assert subjects == {CREDENTIALS_DELETE.subject, CREDENTIALS_GET_DERIVED.subject}
    assert CREDENTIALS_STATUS.subject not in subjects


async def test_an_invalid_change_is_refused_and_the_next_one_is_received() -> None:
    router, received = ServiceRouter(), list[CredentialChanged]()

    @router.credential_changes("posthog")
    async def changed(change: CredentialChanged) -> None:
        received.append(change)

    change = credential_change(7)
    broker = offline_broker(User.GATEWAY)
    broker.include(router)
    async with TestNatsBroker(broker):
        with capture_logs() as logs, pytest.raises(InvalidRequest):
            await broker.publish(b"\xff[", subjects.credential_changed("posthog"))
        with pytest.raises(InvalidRequest, match="a consumer delivered"):
            # As a consumer would deliver it, with the server's permissions.
            await broker.publish(
                change,
                subjects.credential_changed("posthog"),
                reply_to="$JS.ACK.CREDENTIALS.mine.1.1.1.1.0",
            )
        await broker.publish(change, subjects.credential_changed("posthog"))
    assert received == [change]
    assert [(one["event"], one["log_level"]) for one in logs] == [("message refused", "warning")]


async def test_every_erasure_is_received() -> None:
    router, received = ServiceRouter(), list[ContactErased]()

    @router.erasures()
    async def forget(erased: ContactErased) -> None:
        received.append(erased)

    at = datetime(2026, 11, 25, tzinfo=UTC)
    erased = [
        ContactErased(id=one, contact_id=one, user_ids=["u_42"], erased_at=at) for one in ("a", "b")
    ]
    broker = offline_broker(User.ANALYTICS)
    broker.include(router)
    async with TestNatsBroker(broker):
        for one in erased:
            await broker.publish(one, subjects.contact_erased(one.contact_id))
    assert received == erased


async def test_a_request_may_hold_the_numbers_of_many_events() -> None:
    """A backfill stores a page of events in one request; each event's digits were limited."""
    decode = decoder_of(EvaluateConditions)
    condition = b'{"property":"a","operator":"eq","value":[1e308%b]}' % (b",1e308" * 10_000)
    body = b'{"queries":[{"distinctId":"u","conditions":[%b]}]}' % condition
    message: Any = SimpleNamespace(body=body)
    (query,) = (await decode(message)).queries
    assert len(query.conditions[0].value) == 10_001

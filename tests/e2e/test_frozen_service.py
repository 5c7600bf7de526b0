"""A service that is frozen with SIGSTOP is reported as unavailable, and works again after SIGCONT.

The service keeps its connection to NATS. The texts prove that the requests did not end because of
their own deadlines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from cli.stack import nats
from hogsend.contract.credentials import CREDENTIALS_TOKEN, POSTHOG, TokenRequest
from hogsend.contract.directory import INGEST_LIST_CONTACTS, ListContacts
from hogsend.contract.errors import Unavailable
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.running_stack import Up, up
from tests.waiting import eventually

HOURS = 10 * 3600.0


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """A stack that the tests share; each leaves it healthy."""
    directory = tmp_path_factory.mktemp("frozen")
    async with up(directory / "home", directory) as running:
        yield running


@asynccontextmanager
async def frozen(stack: Up, service: User) -> AsyncIterator[None]:
    """Freeze a service during the block, and wait until the stack is healthy again."""
    await eventually(stack.is_healthy)
    process = stack.child(service)
    process.suspend()
    try:
        yield
    finally:
        process.resume()
    await eventually(stack.is_healthy)


@asynccontextmanager
async def connected(stack: Up, user: User) -> AsyncIterator[Connection]:
    """Connect to the stack's NATS as one of the services."""
    password = (stack.home / "secrets" / f"nats-{user}").read_text().strip()
    port = httpx.URL(stack.nats_url).port or 0
    bus = Connection(user, nats.url(user, password, port))
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


@pytest.mark.parametrize(
    ("service", "method", "path", "body"),
    [
        (User.INGEST, "GET", "/v1/admin/contacts", None),
        (User.INGEST, "GET", "/v1/admin/deadletters", None),
        (User.INGEST, "POST", "/v1/admin/deadletters/purge", {"reason": "unreadable"}),
        (User.ANALYTICS, "POST", "/v1/flags/evaluate", {"userId": "u_42"}),
        (User.PROVISIONER, "GET", "/v1/admin/analytics/diagnosis", None),
    ],
)
async def test_a_route_is_503_while_its_service_is_frozen(
    stack: Up, service: User, method: str, path: str, body: dict[str, str] | None
) -> None:
    async def send() -> httpx.Response:
        return await stack.http.request(method, path, json=body, headers=stack.admin, timeout=120)

    async with frozen(stack, service):
        refused = await send()
    assert refused.status_code == 503
    assert refused.json() == {
        "error": f"the {service} service does not respond; it may still carry out the request",
        "code": "unavailable",
    }
    assert (await send()).status_code == 200


@pytest.mark.parametrize(
    ("caller", "endpoint", "request_"),
    [
        (User.GATEWAY, INGEST_LIST_CONTACTS, ListContacts()),
        (User.PROVISIONER, CREDENTIALS_TOKEN, TokenRequest(provider_id=POSTHOG)),
    ],
    ids=["list-contacts", "token"],
)
async def test_a_request_to_a_frozen_service_fails_although_its_deadline_is_hours(
    stack: Up, caller: User, endpoint: Endpoint[Request, Reply], request_: Request
) -> None:
    async with connected(stack, caller) as bus:
        async with frozen(stack, endpoint.service):
            with pytest.raises(Unavailable, match="does not respond"):
                await bus.request(endpoint, request_, deadline=HOURS)
        assert isinstance(await bus.request(endpoint, request_, deadline=HOURS), endpoint.reply)

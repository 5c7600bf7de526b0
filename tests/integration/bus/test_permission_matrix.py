"""Every NATS user tries everything: what it may do is what the matrix says, and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client

from hogsend.contract.credentials import CREDENTIALS_GET_DERIVED, CREDENTIALS_TOKEN
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.registry import channels, endpoints
from hogsend.contract.streams import STREAMS, StreamName
from hogsend.contract.users import DEPRECATED_USERS, User
from tests.servers import Servers

pytestmark = pytest.mark.usefixtures("fresh_bus")

REFUSED = re.compile(
    r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE
)
SERVICES = [user for user in User if user is not User.OPERATOR]


def role(user: User) -> User:
    """The user whose permissions a deprecated one shares."""
    return DEPRECATED_USERS.get(user, user)


@asynccontextmanager
async def trying(servers: Servers, user: User) -> AsyncIterator[tuple[Client, set[str]]]:
    """A client of a user, and every subject it was refused."""
    refused: set[str] = set()

    async def note(error: Exception) -> None:
        if match := REFUSED.search(str(error)):
            # nats-py writes errors in lower case.
            refused.add(match[2])

    client = await nats.connect(
        servers.nats_url(user), inbox_prefix=inbox_prefix(user), error_cb=note
    )
    try:
        yield client, refused
    finally:
        await client.close()


async def _flush(client: Client) -> None:
    # See `Connection.flush`.
    await client.flush()
    await client.flush()


def concrete(subject: str) -> str:
    """One subject that a pattern stands for."""
    return subject.replace("*", "x").replace(">", "x.y")


async def published(servers: Servers, user: User, subjects: set[str]) -> set[str]:
    """Subjects that a user may publish to."""
    async with trying(servers, user) as (client, refused):
        for subject in sorted(subjects):
            await client.publish(subject, b"")
        await _flush(client)
        return {subject for subject in subjects if subject.lower() not in refused}


async def subscribed(servers: Servers, user: User, subjects: set[str]) -> set[str]:
    """Subjects that a user may subscribe to."""
    async with trying(servers, user) as (client, refused):
        for subject in sorted(subjects):
            await client.subscribe(subject)
        await _flush(client)
        return {subject for subject in subjects if subject.lower() not in refused}


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_publishes_and_asks_only_what_is_its_own(servers: Servers, user: User) -> None:
    every = {concrete(channel.subject): role(user) in channel.publishers for channel in channels()}
    every |= {endpoint.subject: role(user) in endpoint.callers for endpoint in endpoints()}
    assert await published(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_hears_only_what_is_its_own(servers: Servers, user: User) -> None:
    every = {channel.subject: role(user) in channel.subscribers for channel in channels()}
    every |= {endpoint.subject: user == endpoint.service for endpoint in endpoints()}
    every |= {f"{inbox_prefix(other)}.>": user == other for other in User}
    every |= {">": False, "hogsend.>": False, "$SYS.>": False, "$JS.>": False, "_INBOX.>": False}
    assert await subscribed(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_answers_only_those_who_may_ask_it(servers: Servers, user: User) -> None:
    asking = {
        caller
        for endpoint in endpoints()
        if endpoint.service == user
        for caller in (*endpoint.callers, User.OPERATOR)
    }
    inboxes = {f"{inbox_prefix(other)}.x": role(other) in asking for other in User}
    assert await published(servers, user, set(inboxes)) == {
        subject for subject, allowed in inboxes.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_touches_only_its_own_streams(servers: Servers, user: User) -> None:
    owned = {name for name, stream in STREAMS.items() if stream.owner == user}
    read = {channel.stream for channel in channels() if role(user) in channel.subscribers}
    every: dict[str, bool] = {}
    for name in StreamName:
        api = "$JS.API"
        every[f"{api}.STREAM.CREATE.{name}"] = name in owned
        every[f"{api}.STREAM.UPDATE.{name}"] = name in owned
        every[f"{api}.STREAM.INFO.{name}"] = name in owned | read
        every[f"{api}.STREAM.DELETE.{name}"] = False
        every[f"{api}.STREAM.MSG.GET.{name}"] = False
        every[f"{api}.STREAM.SNAPSHOT.{name}"] = False
        keeper = user is User.INGEST and name is StreamName.DEADLETTER
        for verb in ("STREAM.PURGE", "STREAM.MSG.DELETE", "DIRECT.GET"):
            every[f"{api}.{verb}.{name}"] = keeper
        durable = "ingest" if user is User.INGEST else "mine"
        every[f"{api}.CONSUMER.MSG.NEXT.{name}.{durable}"] = name in read
        every[f"{api}.CONSUMER.CREATE.{name}.{durable}.hogsend.x"] = name in read
        every[f"$JS.ACK.{name}.{durable}.1.1.1.1.0"] = name in read
    every["$JS.API.STREAM.NAMES"] = False
    every["$JS.API.ACCOUNT.PURGE.x"] = False
    assert await published(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


async def test_only_who_calls_posthog_may_ask_for_a_token(servers: Servers) -> None:
    asked = {CREDENTIALS_TOKEN.subject, CREDENTIALS_GET_DERIVED.subject}
    found = {user: await published(servers, user, asked) for user in SERVICES}
    assert {user for user, may in found.items() if CREDENTIALS_TOKEN.subject in may} == {
        User.PROVISIONER,
        User.ANALYTICS,
    }
    assert {user for user, may in found.items() if CREDENTIALS_GET_DERIVED.subject in may} == {
        User.PROVISIONER
    }


async def test_other_peoples_services_hear_events_and_credential_changes_only(
    servers: Servers,
) -> None:
    every = {channel.subject for channel in channels()}
    for user in (User.SUBSCRIBER, User.APP, User.MEMBER):
        assert await subscribed(servers, user, every) == {
            "hogsend.events.*",
            "hogsend.credentials.*.changed",
        }
    assert await published(servers, User.SUBSCRIBER, {concrete(one) for one in every}) == set()

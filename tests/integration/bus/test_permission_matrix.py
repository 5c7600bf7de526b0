"""Every NATS user has exactly the permissions of the matrix."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client

from hogsend.contract.consumers import (
    ANY,
    API,
    CONSUMER_REQUESTS_USER,
    EXTERNAL_STREAMS,
    EXTERNAL_USERS,
    OWN_API,
    OWN_CONSUMERS,
    reserved,
    unmapped,
)
from hogsend.contract.credentials import CREDENTIALS_GET_DERIVED, CREDENTIALS_TOKEN
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.registry import channels, endpoints
from hogsend.contract.streams import PERSONAL_DATA_STREAMS, STREAMS, StreamName
from hogsend.contract.users import DEPRECATED_USERS, User
from tests.servers import Servers

pytestmark = pytest.mark.usefixtures("fresh_bus")

REFUSED = re.compile(
    r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE
)
SERVICES = [user for user in User if user is not User.OPERATOR]


def role(user: User) -> User:
    """Return the user whose permissions a deprecated one shares."""
    return DEPRECATED_USERS.get(user, user)


@asynccontextmanager
async def trying(servers: Servers, user: User) -> AsyncIterator[tuple[Client, set[str]]]:
    """Connect as a user; yields its client and the subjects that it was refused."""
    refused: set[str] = set()

    async def note(error: Exception) -> None:
        if match := REFUSED.search(str(error)):
            # nats-py writes errors in lower case.
            refused.update(subject.lower() for subject in unmapped(match[2]))

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
    """Return a subject that matches a pattern."""
    return subject.replace("*", "x").replace(">", "x.y")


async def published(servers: Servers, user: User, subjects: set[str]) -> set[str]:
    """Return the subjects that a user may publish to."""
    async with trying(servers, user) as (client, refused):
        for subject in sorted(subjects):
            await client.publish(subject, b"")
        await _flush(client)
        return {subject for subject in subjects if subject.lower() not in refused}


async def subscribed(servers: Servers, user: User, subjects: set[str]) -> set[str]:
    """Return the subjects that a user may subscribe to."""
    async with trying(servers, user) as (client, refused):
        for subject in sorted(subjects):
            await client.subscribe(subject)
        await _flush(client)
        return {subject for subject in subjects if subject.lower() not in refused}


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_publishes_and_requests_only_what_it_may(servers: Servers, user: User) -> None:
    every = {concrete(channel.subject): role(user) in channel.publishers for channel in channels()}
    every |= {endpoint.subject: role(user) in endpoint.callers for endpoint in endpoints()}
    assert await published(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_subscribes_only_to_what_it_may(servers: Servers, user: User) -> None:
    every = {channel.subject: role(user) in channel.subscribers for channel in channels()}
    every |= {endpoint.subject: user == endpoint.service for endpoint in endpoints()}
    every |= {f"{inbox_prefix(other)}.>": user == other for other in User}
    every |= {">": False, "hogsend.>": False, "$SYS.>": False, "$JS.>": False, "_INBOX.>": False}
    assert await subscribed(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_replies_only_to_its_callers(servers: Servers, user: User) -> None:
    asking = {
        caller
        for endpoint in endpoints()
        if endpoint.service == user
        for caller in (*endpoint.callers, User.OPERATOR)
    }
    if asking or user is User.GATEWAY:
        # It asks everybody what they did, other gateways too.
        asking |= {User.GATEWAY, User.OPERATOR}
    if user is User.INGEST:
        # It makes their consumers, and its replicas count each other.
        asking |= {User.SUBSCRIBER, User.APP, User.INGEST}
    inboxes = {f"{inbox_prefix(other)}.x": role(other) in asking for other in User}
    assert await published(servers, user, set(inboxes)) == {
        subject for subject, allowed in inboxes.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_touches_only_its_own_streams(servers: Servers, user: User) -> None:
    owned = {name for name, stream in STREAMS.items() if stream.owner == user}
    own = OWN_CONSUMERS.get(user, {})
    others = EXTERNAL_STREAMS if user in EXTERNAL_USERS else ()
    looked_at = EXTERNAL_STREAMS if user is User.INGEST else ()
    erased = PERSONAL_DATA_STREAMS if user is User.INGEST else ()
    every: dict[str, bool] = {}
    for name in StreamName:
        every[f"{API}.STREAM.CREATE.{name}"] = name in owned
        every[f"{API}.STREAM.UPDATE.{name}"] = name in owned
        every[f"{API}.STREAM.INFO.{name}"] = name in {
            *owned,
            *own,
            *others,
            *looked_at,
            *erased,
        }
        every[f"{API}.STREAM.DELETE.{name}"] = False
        own_changes = user is User.CREDENTIALS and name is StreamName.CREDENTIALS
        looks_for_erased = user is User.ANALYTICS and name in own
        every[f"{API}.STREAM.MSG.GET.{name}"] = own_changes or looks_for_erased
        every[f"{API}.STREAM.SNAPSHOT.{name}"] = False
        every[f"{API}.STREAM.PURGE.{name}"] = name in owned
        for verb in ("STREAM.MSG.DELETE", "DIRECT.GET"):
            every[f"{API}.{verb}.{name}"] = name in erased
        for verb in ("PAUSE", "UNPIN", "LEADER.STEPDOWN", "RESET"):
            lets_go = verb == "UNPIN" and name is StreamName.WEBHOOKS and name in own
            every[f"{API}.CONSUMER.{verb}.{name}.mine"] = lets_go
        every[f"{API}.CONSUMER.NAMES.{name}"] = False
        trims = name is StreamName.ENGAGEMENT and name in owned
        replays = name is StreamName.EVENTS and name in owned
        every[f"{API}.CONSUMER.LIST.{name}"] = own.get(name) == ANY or trims or replays
    every[f"{API}.STREAM.NAMES"] = user in EXTERNAL_USERS
    every[f"{API}.INFO"] = user in {*EXTERNAL_USERS, CONSUMER_REQUESTS_USER}
    every[f"{API}.STREAM.LIST"] = False
    every[f"{API}.ACCOUNT.PURGE.x"] = False
    assert await published(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


@pytest.mark.parametrize("api", [API, OWN_API])
@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_reaches_only_its_own_consumers(
    servers: Servers, user: User, api: str
) -> None:
    others = EXTERNAL_STREAMS if user in EXTERNAL_USERS else ()
    every: dict[str, bool] = {}
    for stream in StreamName:
        for name in ("somebodys", *sorted(reserved(stream))):
            own = OWN_CONSUMERS.get(user, {}).get(stream)
            mine = own == name or (own == ANY and name not in reserved(stream, user))
            deletes = mine and (user is User.ANALYTICS or own == ANY)
            read = mine or (stream in others and name not in reserved(stream))
            looked_at = user is User.INGEST and stream in EXTERNAL_STREAMS
            if user in EXTERNAL_USERS and api == OWN_API:
                read = False
            every[f"{api}.CONSUMER.INFO.{stream}.{name}"] = read or looked_at
            every[f"{api}.CONSUMER.MSG.NEXT.{stream}.{name}"] = read
            # Through ingest, which checks the request, or as a service of ours.
            asked = stream in others and api == API
            made = asked or mine or looked_at
            every[f"{api}.CONSUMER.CREATE.{stream}.{name}.hogsend.x"] = made
            every[f"{api}.CONSUMER.DURABLE.CREATE.{stream}.{name}"] = made
            every[f"{api}.CONSUMER.DELETE.{stream}.{name}"] = asked or deletes or looked_at
            if api == API:
                every[f"$JS.ACK.{stream}.{name}.1.1.1.1.0"] = read
    assert await published(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


async def test_the_operator_asks_for_no_secret_and_hears_no_request(servers: Servers) -> None:
    every = {concrete(channel.subject): True for channel in channels()}
    every |= {endpoint.subject: not endpoint.holds_secret for endpoint in endpoints()}
    assert await published(servers, User.OPERATOR, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }
    expected = {channel.subject: True for channel in channels()}
    expected |= {endpoint.subject: False for endpoint in endpoints()}
    expected |= {f"{inbox_prefix(other)}.>": other is User.OPERATOR for other in User}
    expected |= {">": False, "hogsend.>": False, "hogsend.rpc.>": False, "$SYS.>": False}
    assert await subscribed(servers, User.OPERATOR, set(expected)) == {
        subject for subject, allowed in expected.items() if allowed
    }


async def test_only_who_calls_posthog_may_ask_for_a_token(servers: Servers) -> None:
    asked = {CREDENTIALS_TOKEN.subject, CREDENTIALS_GET_DERIVED.subject}
    allowed_by_user = {user: await published(servers, user, asked) for user in User}
    assert {user for user, may in allowed_by_user.items() if CREDENTIALS_TOKEN.subject in may} == {
        User.PROVISIONER,
        User.ANALYTICS,
    }
    assert {
        user for user, may in allowed_by_user.items() if CREDENTIALS_GET_DERIVED.subject in may
    } == {User.PROVISIONER}


async def test_other_peoples_services_hear_events_and_credential_changes_only(
    servers: Servers,
) -> None:
    every = {channel.subject for channel in channels()}
    for user in (User.SUBSCRIBER, User.APP, User.MEMBER):
        assert await subscribed(servers, user, every) == {
            "hogsend.events.*",
            "hogsend.contacts.*.erased",
            "hogsend.credentials.*.changed",
        }
    assert await published(servers, User.SUBSCRIBER, {concrete(one) for one in every}) == set()

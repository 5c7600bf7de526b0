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
    """Connect as a user; yield its client and the subjects that the server refused."""
    refused: set[str] = set()

    async def record(error: Exception) -> None:
        if match := REFUSED.search(str(error)):
            # nats-py writes errors in lower case.
            refused.update(subject.lower() for subject in unmapped(match[2]))

    client = await nats.connect(
        servers.nats_url(user), inbox_prefix=inbox_prefix(user), error_cb=record
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
async def test_a_user_may_publish_and_request_only_its_subjects_of_the_contract(
    servers: Servers, user: User
) -> None:
    every = {concrete(channel.subject): role(user) in channel.publishers for channel in channels()}
    every |= {endpoint.subject: role(user) in endpoint.callers for endpoint in endpoints()}
    assert await published(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_may_subscribe_only_to_its_subjects_of_the_contract(
    servers: Servers, user: User
) -> None:
    every = {channel.subject: role(user) in channel.subscribers for channel in channels()}
    every |= {endpoint.subject: user == endpoint.service for endpoint in endpoints()}
    every |= {f"{inbox_prefix(other)}.>": user == other for other in User}
    every |= {">": False, "hogsend.>": False, "$SYS.>": False, "$JS.>": False, "_INBOX.>": False}
    assert await subscribed(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_may_publish_only_to_inboxes_of_its_callers(
    servers: Servers, user: User
) -> None:
    callers = {
        caller
        for endpoint in endpoints()
        if endpoint.service == user
        for caller in (*endpoint.callers, User.OPERATOR)
    }
    if callers or user is User.GATEWAY:
        # The gateway requests the activity of every service, including other gateways.
        callers |= {User.GATEWAY, User.OPERATOR}
    if user is User.INGEST:
        # Ingest creates consumers for external services, and its replicas count each other.
        callers |= {User.SUBSCRIBER, User.APP, User.INGEST}
    inboxes = {f"{inbox_prefix(other)}.x": role(other) in callers for other in User}
    assert await published(servers, user, set(inboxes)) == {
        subject for subject, allowed in inboxes.items() if allowed
    }


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_may_use_only_the_requests_for_streams_that_it_needs(
    servers: Servers, user: User
) -> None:
    owned = {name for name, stream in STREAMS.items() if stream.owner == user}
    own = OWN_CONSUMERS.get(user, {})
    external = EXTERNAL_STREAMS if user in EXTERNAL_USERS else ()
    checked = EXTERNAL_STREAMS if user is User.INGEST else ()
    erasable = PERSONAL_DATA_STREAMS if user is User.INGEST else ()
    every: dict[str, bool] = {}
    for name in StreamName:
        every[f"{API}.STREAM.CREATE.{name}"] = name in owned
        every[f"{API}.STREAM.UPDATE.{name}"] = name in owned
        every[f"{API}.STREAM.INFO.{name}"] = name in {
            *owned,
            *own,
            *external,
            *checked,
            *erasable,
        }
        every[f"{API}.STREAM.DELETE.{name}"] = False
        reads_state = user is User.CREDENTIALS and name is StreamName.CREDENTIALS
        reads_single_messages = user is User.ANALYTICS and name in own
        every[f"{API}.STREAM.MSG.GET.{name}"] = reads_state or reads_single_messages
        every[f"{API}.STREAM.SNAPSHOT.{name}"] = False
        every[f"{API}.STREAM.PURGE.{name}"] = name in owned
        for verb in ("STREAM.MSG.DELETE", "DIRECT.GET"):
            every[f"{API}.{verb}.{name}"] = name in erasable
        for verb in ("PAUSE", "UNPIN", "LEADER.STEPDOWN", "RESET"):
            unpins = verb == "UNPIN" and name is StreamName.WEBHOOKS and name in own
            every[f"{API}.CONSUMER.{verb}.{name}.mine"] = unpins
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
async def test_a_user_may_use_only_the_requests_for_its_own_consumers(
    servers: Servers, user: User, api: str
) -> None:
    external = EXTERNAL_STREAMS if user in EXTERNAL_USERS else ()
    every: dict[str, bool] = {}
    for stream in StreamName:
        for name in ("other", *sorted(reserved(stream))):
            own = OWN_CONSUMERS.get(user, {}).get(stream)
            is_own = own == name or (own == ANY and name not in reserved(stream, user))
            deletes = is_own and (user is User.ANALYTICS or own == ANY)
            read = is_own or (stream in external and name not in reserved(stream))
            checks = user is User.INGEST and stream in EXTERNAL_STREAMS
            if user in EXTERNAL_USERS and api == OWN_API:
                read = False
            every[f"{api}.CONSUMER.INFO.{stream}.{name}"] = read or checks
            every[f"{api}.CONSUMER.MSG.NEXT.{stream}.{name}"] = read
            # An external service creates through ingest, which checks the request.
            through_ingest = stream in external and api == API
            creates = through_ingest or is_own or checks
            every[f"{api}.CONSUMER.CREATE.{stream}.{name}.hogsend.x"] = creates
            every[f"{api}.CONSUMER.DURABLE.CREATE.{stream}.{name}"] = creates
            every[f"{api}.CONSUMER.DELETE.{stream}.{name}"] = through_ingest or deletes or checks
            if api == API:
                every[f"$JS.ACK.{stream}.{name}.1.1.1.1.0"] = read
    assert await published(servers, user, set(every)) == {
        subject for subject, allowed in every.items() if allowed
    }


async def test_the_operator_may_request_no_secret_and_subscribe_to_no_request(
    servers: Servers,
) -> None:
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


async def test_only_provisioner_and_analytics_may_request_a_token(servers: Servers) -> None:
    requests = {CREDENTIALS_TOKEN.subject, CREDENTIALS_GET_DERIVED.subject}
    allowed_by_user = {user: await published(servers, user, requests) for user in User}
    assert {
        user for user, subjects in allowed_by_user.items() if CREDENTIALS_TOKEN.subject in subjects
    } == {
        User.PROVISIONER,
        User.ANALYTICS,
    }
    assert {
        user
        for user, subjects in allowed_by_user.items()
        if CREDENTIALS_GET_DERIVED.subject in subjects
    } == {User.PROVISIONER}


async def test_external_services_may_subscribe_only_to_events_erasures_and_credential_changes(
    servers: Servers,
) -> None:
    every = {channel.subject for channel in channels()}
    for user in (User.SUBSCRIBER, User.APP, User.MEMBER):
        assert await subscribed(servers, user, every) == {
            "hogsend.events.*",
            "hogsend.contacts.*.erased",
            "hogsend.credentials.*.changed",
        }
    assert (
        await published(servers, User.SUBSCRIBER, {concrete(subject) for subject in every}) == set()
    )

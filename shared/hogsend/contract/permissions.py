"""The NATS server's permission matrix, derived from `hogsend.contract.registry`.

Every user gets its own inbox prefix, so that no user can read another's replies.
"""

from __future__ import annotations

import msgspec

from hogsend.contract.registry import channels, endpoints
from hogsend.contract.streams import INGEST_CONSUMER, STREAMS, StreamName
from hogsend.contract.users import DEAD_LETTER_KEEPER, DEPRECATED_USERS, User


class Permissions(msgspec.Struct, frozen=True):
    """Subjects a user may publish to and subscribe to; everything else is refused."""

    publish: list[str]
    subscribe: list[str]


def inbox_prefix(user: str) -> str:
    """Prefix of the reply subjects of `user`."""
    return f"_INBOX_{user}"


def permissions(user: User) -> Permissions:
    """What `user` may do on the bus.

    The operator may do everything within Hogsend's subjects and JetStream; it is for people.
    """
    inbox = f"{inbox_prefix(user)}.>"
    user = DEPRECATED_USERS.get(user, user)
    if user is User.OPERATOR:
        return Permissions(
            publish=["hogsend.>", "$JS.API.>", "$JS.ACK.>", "$JS.SNAPSHOT.>", "$SRV.>"],
            subscribe=["hogsend.>", inbox],
        )
    publish = {channel.subject for channel in channels() if user in channel.publishers}
    publish |= {endpoint.subject for endpoint in endpoints() if user in endpoint.callers}
    subscribe = {inbox}
    subscribe |= {endpoint.subject for endpoint in endpoints() if endpoint.service == user}
    if any(endpoint.service == user for endpoint in endpoints()):
        subscribe.add("$SRV.>")
        publish |= {f"{inbox_prefix(caller)}.>" for caller in _callers_of(user)}
    publish |= _owner_api(user)
    if user is DEAD_LETTER_KEEPER:
        publish |= _dead_letter_api()
    for channel in channels():
        if user in channel.subscribers:
            subscribe.add(channel.subject)
            publish |= _consumer_api(user, channel.stream)
    return Permissions(publish=sorted(publish), subscribe=sorted(subscribe))


def _callers_of(service: User) -> set[User]:
    asking = {
        caller
        for endpoint in endpoints()
        if endpoint.service == service
        for caller in endpoint.callers
    }
    deprecated = {user for user, current in DEPRECATED_USERS.items() if current in asking}
    return asking | deprecated | {User.OPERATOR}


def _owner_api(user: User) -> set[str]:
    return {
        f"$JS.API.STREAM.{verb}.{name}"
        for name, stream in STREAMS.items()
        if stream.owner == user
        for verb in ("CREATE", "UPDATE", "INFO")
    }


def _dead_letter_api() -> set[str]:
    """Reading without a consumer, and deleting, which nobody may do on any other stream."""
    stream = StreamName.DEADLETTER
    return {
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.STREAM.MSG.DELETE.{stream}",
        f"$JS.API.STREAM.PURGE.{stream}",
    }


def _consumer_api(user: User, stream: StreamName) -> set[str]:
    # Ingest works through its one durable; subscribers bring durables of their own.
    durable = INGEST_CONSUMER.durable_name if user is User.INGEST else "*"
    api = {
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.CONSUMER.INFO.{stream}.{durable}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
        f"$JS.ACK.{stream}.{durable}.>",
        f"$JS.FC.{stream}.>",
    }
    if durable == "*":
        api |= {f"$JS.API.CONSUMER.{verb}.{stream}.>" for verb in ("CREATE", "DURABLE.CREATE")}
        api.add(f"$JS.API.CONSUMER.DELETE.{stream}.*")
        if user is User.ANALYTICS:
            # To find consumers of destinations that are gone.
            api.add(f"$JS.API.CONSUMER.LIST.{stream}")
    else:
        api |= {
            f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.>",
            f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{durable}",
        }
    return api

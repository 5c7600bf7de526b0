"""The NATS server's permission matrix, derived from `hogsend.contract.registry`.

Every user gets its own inbox prefix, so that no user can read another's replies.
"""

from __future__ import annotations

import msgspec

from hogsend.contract.activity import ASK_ACTIVITY
from hogsend.contract.consumers import (
    ANSWERED_BY,
    ANY,
    API,
    OTHERS,
    OWN_CONSUMERS,
    REQUESTS,
    STREAMS_OF_OTHERS,
    reserved,
)
from hogsend.contract.registry import channels, endpoints
from hogsend.contract.streams import ERASED_FROM, STREAMS, StreamName, patterns
from hogsend.contract.users import DEAD_LETTER_KEEPER, DEPRECATED_USERS, ERASER, User

CROSSING = "_R_."
"""Begins the reply that NATS gives to a request from another account (`contract.accounts`)."""

USER_INFO = "$SYS.REQ.USER.INFO"
"""Where a server says which account and permissions the asking user has."""


class Permissions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Subjects a user may publish to and subscribe to; everything else is refused."""

    publish: list[str]
    subscribe: list[str]
    refused: list[str] = []
    """Subjects it may not publish to although `publish` has a pattern for them."""

    def configured(self) -> dict[str, object]:
        """As nats-server's configuration has it."""
        publish = {"allow": self.publish, "deny": self.refused} if self.refused else self.publish
        return {"publish": publish, "subscribe": self.subscribe}


def inbox_prefix(user: str) -> str:
    """Prefix of the reply subjects of `user`."""
    return f"_INBOX_{user}"


def permissions(user: User) -> Permissions:
    """What `user` may do on the bus.

    The operator is for people. It publishes to and reads every stream, asks every service, and
    administers JetStream, but hears no requests, and asks for no secret.
    """
    inbox = f"{inbox_prefix(user)}.>"
    user = DEPRECATED_USERS.get(user, user)
    if user is User.OPERATOR:
        stored = {pattern for stream in STREAMS for pattern in patterns(stream)}
        asked = {endpoint.subject for endpoint in endpoints() if not endpoint.holds_secret}
        # Stock tools ask for consumers as everybody does, and are told what else to do.
        administered = {"$JS.API.>", "$JS.ACK.>", "$JS.SNAPSHOT.>", "$SRV.>", f"{REQUESTS}.>"}
        return Permissions(
            publish=sorted(stored | asked | administered), subscribe=sorted({*stored, inbox})
        )
    publish = {channel.subject for channel in channels() if user in channel.publishers}
    publish |= {endpoint.subject for endpoint in endpoints() if user in endpoint.callers}
    subscribe = {inbox}
    subscribe |= {endpoint.subject for endpoint in endpoints() if endpoint.service == user}
    if user is ANSWERED_BY:
        subscribe.add(f"{REQUESTS}.>")
    if user is User.GATEWAY:
        publish.add(ASK_ACTIVITY)
    if user is User.GATEWAY or any(endpoint.service == user for endpoint in endpoints()):
        subscribe.add("$SRV.>")
        publish |= _answers(user)
    publish |= _owner_api(user)
    if user is STREAMS[StreamName.ENGAGEMENT].owner:
        # To know what every consumer is done with, which it deletes.
        publish.add(f"{API}.CONSUMER.LIST.{StreamName.ENGAGEMENT}")
    if user is User.CREDENTIALS:
        # To see whether late subscribers still find the last change.
        publish.add(f"{API}.STREAM.MSG.GET.{StreamName.CREDENTIALS}")
    publish |= _letters_and_erasures(user)
    for channel in channels():
        if user in channel.subscribers:
            subscribe.add(channel.subject)
            publish |= _consumer_api(user, channel.stream)
    if user is ANSWERED_BY:
        publish |= _answering_api()
    refused = sorted(_consumers_of_others(user))
    return Permissions(sorted(publish), sorted(subscribe), refused)


def _answers(service: User) -> set[str]:
    asking = _callers_of(service)
    inboxes = {f"{inbox_prefix(caller)}.>" for caller in asking}
    # Who asks from another account is answered through the server.
    crossing = {f"{CROSSING}>"} if service is ANSWERED_BY or asking & {*OTHERS} else set()
    return inboxes | crossing


def _callers_of(service: User) -> set[User]:
    asking = {
        caller
        for endpoint in endpoints()
        if endpoint.service == service
        for caller in endpoint.callers
    }
    deprecated = {user for user, current in DEPRECATED_USERS.items() if current in asking}
    # The gateway asks every service what it did, itself included.
    return asking | deprecated | {User.GATEWAY, User.OPERATOR}


def _owner_api(user: User) -> set[str]:
    return {
        f"$JS.API.STREAM.{verb}.{name}"
        for name, stream in STREAMS.items()
        if stream.owner == user
        # Purged of what readers can have JetStream put there, and of what everybody is done with.
        for verb in ("CREATE", "UPDATE", "INFO", "PURGE")
    }


def _dead_letter_api() -> set[str]:
    """Reading without a consumer, and deleting one message, which else only an erasure does."""
    stream = StreamName.DEADLETTER
    return {
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.STREAM.MSG.DELETE.{stream}",
    }


def _letters_and_erasures(user: User) -> set[str]:
    """Reading without a consumer and deleting single messages, of whatever holds people's data."""
    api = _dead_letter_api() if user is DEAD_LETTER_KEEPER else set()
    if user is not ERASER:
        return api
    return api | {
        f"{API}.{verb}.{stream}"
        for stream in ERASED_FROM
        for verb in ("STREAM.INFO", "DIRECT.GET", "STREAM.MSG.DELETE")
    }


def _consumer_api(user: User, stream: StreamName) -> set[str]:
    if user in OTHERS:
        return _consumer_api_of_others(stream)
    name = OWN_CONSUMERS.get(user, {}).get(stream)
    if name is None:
        # It hears what is published, and asks when it may have missed something.
        return set()
    api = _reading(stream, name) | {
        f"{API}.CONSUMER.CREATE.{stream}.{name}.>",
        f"{API}.CONSUMER.DURABLE.CREATE.{stream}.{name}",
    }
    if user is User.ANALYTICS or name == ANY:
        api.add(f"{API}.CONSUMER.DELETE.{stream}.{name}")
    if user is User.ANALYTICS:
        # To see whether what waited was erased meanwhile.
        api.add(f"{API}.STREAM.MSG.GET.{stream}")
    if name == ANY:
        # To find consumers of destinations that are gone, and of another number of partitions.
        api.add(f"{API}.CONSUMER.LIST.{stream}")
    if stream is StreamName.WEBHOOKS:
        # Its replicas count each other, and one that has more than its share lets go of some.
        api |= {
            f"$SRV.PING.hogsend-{user}",
            f"{inbox_prefix(user)}.>",
            f"{API}.CONSUMER.UNPIN.{stream}.{name}",
        }
    return api


def _consumer_api_of_others(stream: StreamName) -> set[str]:
    return _reading(stream, "*") | {
        # Only names, of streams that are documented, for clients that look a stream up by subject.
        f"{API}.STREAM.NAMES",
        # Sums of the account. nats.js asks before anything else whether there is a JetStream.
        f"{API}.INFO",
        f"{REQUESTS}.CREATE.{stream}",
        f"{REQUESTS}.CREATE.{stream}.>",
        f"{REQUESTS}.DURABLE.CREATE.{stream}.*",
        f"{REQUESTS}.DELETE.{stream}.*",
    }


def _reading(stream: StreamName, consumer: str) -> set[str]:
    return {
        f"{API}.STREAM.INFO.{stream}",
        f"{API}.CONSUMER.INFO.{stream}.{consumer}",
        f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
        f"$JS.FC.{stream}.>",
    }


def _answering_api() -> set[str]:
    """What ingest does for others, and of the account; it answers into inboxes alone."""
    api = {f"{inbox_prefix(other)}.>" for other in OTHERS}
    for stream in STREAMS_OF_OTHERS:
        api |= {
            f"{API}.STREAM.INFO.{stream}",
            f"{API}.CONSUMER.INFO.{stream}.*",
            f"{API}.CONSUMER.CREATE.{stream}.>",
            f"{API}.CONSUMER.DURABLE.CREATE.{stream}.*",
            f"{API}.CONSUMER.DELETE.{stream}.*",
        }
    # To find who else would get what is replayed to one durable.
    api.add(f"{API}.CONSUMER.LIST.{StreamName.EVENTS}")
    # To see whether others are kept apart at all, and what all streams together take.
    api |= {USER_INFO, f"{API}.INFO"}
    return api


def _consumers_of_others(user: User) -> set[str]:
    """What reaches another service's consumer where `user` may reach any."""
    anywhere = {stream for stream, name in OWN_CONSUMERS.get(user, {}).items() if name == ANY}
    return {
        subject
        for stream in (STREAMS_OF_OTHERS if user in OTHERS else sorted(anywhere))
        for name in reserved(stream, user)
        for subject in (
            f"{API}.CONSUMER.CREATE.{stream}.{name}.>",
            f"{API}.CONSUMER.DURABLE.CREATE.{stream}.{name}",
            f"{API}.CONSUMER.DELETE.{stream}.{name}",
            f"{API}.CONSUMER.INFO.{stream}.{name}",
            f"{API}.CONSUMER.MSG.NEXT.{stream}.{name}",
            f"$JS.ACK.{stream}.{name}.>",
        )
    }

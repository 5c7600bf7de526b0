"""The permissions of every NATS user, derived from `hogsend.contract.registry`.

Every user has its own inbox prefix, so that no user can read the replies to another one.
"""

from __future__ import annotations

import msgspec

from hogsend.contract.activity import ACTIVITY_SUBJECT
from hogsend.contract.consumers import (
    ANY,
    API,
    CONSUMER_REQUESTS,
    CONSUMER_REQUESTS_USER,
    EXTERNAL_STREAMS,
    EXTERNAL_USERS,
    OWN_CONSUMERS,
    reserved,
)
from hogsend.contract.discovery import ping_subject
from hogsend.contract.registry import channels, endpoints
from hogsend.contract.streams import PERSONAL_DATA_STREAMS, STREAMS, StreamName, patterns
from hogsend.contract.users import DEAD_LETTER_KEEPER, DEPRECATED_USERS, ERASER, User

CROSS_ACCOUNT_REPLY = "_R_."
"""Prefix of the reply subject that the server makes for a request from another account.

See `hogsend.contract.accounts`.
"""

USER_INFO = "$SYS.REQ.USER.INFO"
"""Request subject of the server. It replies with the account and permissions of the caller."""


class Permissions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Subjects that a user may publish and subscribe to. The server refuses all others."""

    publish: list[str]
    subscribe: list[str]
    refused: list[str] = []
    """Subjects that the user may not publish to, although a pattern in `publish` matches them."""

    def configured(self) -> dict[str, object]:
        """The permissions in the form of nats-server's configuration."""
        publish = {"allow": self.publish, "deny": self.refused} if self.refused else self.publish
        return {"publish": publish, "subscribe": self.subscribe}


def inbox_prefix(user: str) -> str:
    """Prefix of all inboxes of `user`, the subjects on which it receives replies."""
    return f"_INBOX_{user}"


def permissions(user: User) -> Permissions:
    """The permissions of `user`.

    The operator is a user for people. It publishes to and reads every stream, administers JetStream
    and calls every endpoint, except those that hold a secret. It cannot receive requests.
    """
    inbox = f"{inbox_prefix(user)}.>"
    user = DEPRECATED_USERS.get(user, user)
    if user is User.OPERATOR:
        stored = {pattern for stream in STREAMS for pattern in patterns(stream)}
        called = {endpoint.subject for endpoint in endpoints() if not endpoint.holds_secret}
        # Ingest refuses the operator's requests in `CONSUMER_REQUESTS`; the error says what to do.
        administered = {
            "$JS.API.>",
            "$JS.ACK.>",
            "$JS.SNAPSHOT.>",
            "$SRV.>",
            f"{CONSUMER_REQUESTS}.>",
        }
        return Permissions(
            publish=sorted(stored | called | administered), subscribe=sorted({*stored, inbox})
        )
    publish = {channel.subject for channel in channels() if user in channel.publishers}
    publish |= _request_subjects(user)
    subscribe = {inbox}
    subscribe |= {endpoint.subject for endpoint in endpoints() if endpoint.service == user}
    if user is CONSUMER_REQUESTS_USER:
        subscribe.add(f"{CONSUMER_REQUESTS}.>")
    if user is User.GATEWAY:
        publish.add(ACTIVITY_SUBJECT)
    if user is User.GATEWAY or any(endpoint.service == user for endpoint in endpoints()):
        subscribe.add("$SRV.>")
        publish |= _reply_subjects(user)
    publish |= _owner_api(user)
    if user is STREAMS[StreamName.ENGAGEMENT].owner:
        # Ingest deletes the messages that all consumers have acknowledged.
        publish.add(f"{API}.CONSUMER.LIST.{StreamName.ENGAGEMENT}")
    if user is User.CREDENTIALS:
        # It checks that the last change is still in the stream, for subscribers that come later.
        publish.add(f"{API}.STREAM.MSG.GET.{StreamName.CREDENTIALS}")
    publish |= _dead_letter_and_erasure_api(user)
    for channel in channels():
        if user in channel.subscribers:
            subscribe.add(channel.subject)
            publish |= _consumer_api(user, channel.stream)
    if user is CONSUMER_REQUESTS_USER:
        publish |= _consumer_request_api()
    refused = sorted(_consumers_of_other_services(user))
    return Permissions(sorted(publish), sorted(subscribe), refused)


def _request_subjects(caller: User) -> set[str]:
    called = [endpoint for endpoint in endpoints() if caller in endpoint.callers]
    # A caller pings the service while it waits for a reply.
    return {
        subject
        for endpoint in called
        for subject in (endpoint.subject, ping_subject(endpoint.service))
    }


def _reply_subjects(service: User) -> set[str]:
    callers = _callers_of(service)
    inboxes = {f"{inbox_prefix(caller)}.>" for caller in callers}
    # The server gives requests from another account a reply subject of its own.
    has_external_callers = service is CONSUMER_REQUESTS_USER or bool(callers & {*EXTERNAL_USERS})
    return inboxes | ({f"{CROSS_ACCOUNT_REPLY}>"} if has_external_callers else set())


def _callers_of(service: User) -> set[User]:
    callers = {
        caller
        for endpoint in endpoints()
        if endpoint.service == service
        for caller in endpoint.callers
    }
    deprecated = {user for user, current in DEPRECATED_USERS.items() if current in callers}
    # The gateway requests the activity of every service, itself included.
    return callers | deprecated | {User.GATEWAY, User.OPERATOR}


def _owner_api(user: User) -> set[str]:
    return {
        f"$JS.API.STREAM.{verb}.{name}"
        for name, stream in STREAMS.items()
        if stream.owner == user
        # PURGE removes acknowledged messages, and those that clients made JetStream publish here.
        for verb in ("CREATE", "UPDATE", "INFO", "PURGE")
    }


def _dead_letter_api() -> set[str]:
    """Subjects to read dead letters without a consumer, and to delete a single one."""
    stream = StreamName.DEADLETTER
    return {
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.STREAM.MSG.DELETE.{stream}",
    }


def _dead_letter_and_erasure_api(user: User) -> set[str]:
    """Subjects to manage dead letters, and to erase a person's messages from the streams."""
    api = _dead_letter_api() if user is DEAD_LETTER_KEEPER else set()
    if user is not ERASER:
        return api
    return api | {
        f"{API}.{verb}.{stream}"
        for stream in PERSONAL_DATA_STREAMS
        for verb in ("STREAM.INFO", "DIRECT.GET", "STREAM.MSG.DELETE")
    }


def _consumer_api(user: User, stream: StreamName) -> set[str]:
    if user in EXTERNAL_USERS:
        return _external_consumer_api(stream)
    name = OWN_CONSUMERS.get(user, {}).get(stream)
    if name is None:
        # It uses a plain subscription, and requests the present state when it may have missed one.
        return set()
    api = _read_api(stream, name) | {
        f"{API}.CONSUMER.CREATE.{stream}.{name}.>",
        f"{API}.CONSUMER.DURABLE.CREATE.{stream}.{name}",
    }
    if user is User.ANALYTICS or name == ANY:
        api.add(f"{API}.CONSUMER.DELETE.{stream}.{name}")
    if user is User.ANALYTICS:
        # It checks whether a message that waited for a retry was erased meanwhile.
        api.add(f"{API}.STREAM.MSG.GET.{stream}")
    if name == ANY:
        # It finds consumers of deleted destinations, and of an earlier number of partitions.
        api.add(f"{API}.CONSUMER.LIST.{stream}")
    if stream is StreamName.WEBHOOKS:
        # Replicas of ingest count each other; one with more than its share releases partitions.
        api |= {
            ping_subject(user),
            f"{inbox_prefix(user)}.>",
            f"{API}.CONSUMER.UNPIN.{stream}.{name}",
        }
    return api


def _external_consumer_api(stream: StreamName) -> set[str]:
    return _read_api(stream, "*") | {
        # For clients that look a stream up by subject. The reply holds names of documented streams.
        f"{API}.STREAM.NAMES",
        # nats.js first checks whether JetStream is enabled. The reply holds the account's totals.
        f"{API}.INFO",
        f"{CONSUMER_REQUESTS}.CREATE.{stream}",
        f"{CONSUMER_REQUESTS}.CREATE.{stream}.>",
        f"{CONSUMER_REQUESTS}.DURABLE.CREATE.{stream}.*",
        f"{CONSUMER_REQUESTS}.DELETE.{stream}.*",
    }


def _read_api(stream: StreamName, consumer: str) -> set[str]:
    """Subjects to read a stream through one consumer."""
    return {
        f"{API}.STREAM.INFO.{stream}",
        f"{API}.CONSUMER.INFO.{stream}.{consumer}",
        f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
        f"$JS.FC.{stream}.>",
    }


def _consumer_request_api() -> set[str]:
    """Subjects that ingest publishes to while it serves consumer requests of external services.

    Ingest replies to their inboxes only.
    """
    api = {f"{inbox_prefix(user)}.>" for user in EXTERNAL_USERS}
    for stream in EXTERNAL_STREAMS:
        api |= {
            f"{API}.STREAM.INFO.{stream}",
            f"{API}.CONSUMER.INFO.{stream}.*",
            f"{API}.CONSUMER.CREATE.{stream}.>",
            f"{API}.CONSUMER.DURABLE.CREATE.{stream}.*",
            f"{API}.CONSUMER.DELETE.{stream}.*",
        }
    # A replay checks whether another consumer would receive the events as well.
    api.add(f"{API}.CONSUMER.LIST.{StreamName.EVENTS}")
    # Ingest checks that users are in separate accounts, and the size of all streams together.
    api |= {USER_INFO, f"{API}.INFO"}
    return api


def _consumers_of_other_services(user: User) -> set[str]:
    """Subjects of other services' consumers, on streams where `user` may use any name."""
    with_any_name = {stream for stream, name in OWN_CONSUMERS.get(user, {}).items() if name == ANY}
    return {
        subject
        for stream in (EXTERNAL_STREAMS if user in EXTERNAL_USERS else sorted(with_any_name))
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

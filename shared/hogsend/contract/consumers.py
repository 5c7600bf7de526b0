"""Consumers of other people's services: made and deleted through a request that ingest answers.

JetStream takes any configuration from a user that may make a consumer, and delivers with the
server's rights. So NATS' configuration maps the API that makes and deletes consumers of the streams
that others read to `REQUESTS`, on its way in from a client: stock clients go on as they are. NATS
checks permissions on the mapped subject, and only our own services are granted the one that
JetStream listens on, which they reach below `OWN_API` (docs/adr/0012).
"""

from __future__ import annotations

from hogsend.contract.streams import INGEST_CONSUMER, StreamName
from hogsend.contract.users import DEPRECATED_USERS, User

API = "$JS.API"
OWN_API = "hogsend.js"
"""JetStream's API under another name, which is mapped to it."""
REQUESTS = "hogsend.consumers"
"""`hogsend.consumers.CREATE.<stream>...`, as below `$JS.API.CONSUMER`."""

ANSWERED_BY = User.INGEST
STREAMS_OF_OTHERS = (StreamName.EVENTS, StreamName.CREDENTIALS)
OTHERS = (User.SUBSCRIBER, User.APP, *DEPRECATED_USERS)
"""NATS users of other people's services."""

MIRROR = "mirror"
"""Analytics' durable on EVENTS, when events are mirrored to PostHog."""
PERSONS = "persons"
"""Analytics' durable of what PostHog shall know about people."""
ANY = "*"

OWN_CONSUMERS: dict[User, dict[StreamName, str]] = {
    User.INGEST: {
        # One more for each partition.
        StreamName.WEBHOOKS: ANY,
        StreamName.ENGAGEMENT: str(INGEST_CONSUMER.durable_name),
        StreamName.AUDIT: str(INGEST_CONSUMER.durable_name),
    },
    User.ANALYTICS: {
        StreamName.EVENTS: MIRROR,
        StreamName.PERSONS: PERSONS,
        # One for each destination, named by its id.
        StreamName.ENGAGEMENT: ANY,
    },
}
"""The durables of our own services, which make, read and delete no others."""


def reserved(stream: StreamName, user: User | None = None) -> set[str]:
    """Names of the consumers of a stream that belong to our services other than `user`."""
    owned = (names.get(stream) for owner, names in OWN_CONSUMERS.items() if owner is not user)
    return {name for name in owned if name is not None and name != ANY}


def own_api() -> dict[str, str]:
    """The mapping that makes JetStream's API known as `OWN_API`, too."""
    return {f"{OWN_API}.>": f"{API}.>"}


def requests_of_others() -> dict[str, str]:
    """The mappings for who is not trusted with consumers: what it publishes on, and what it is."""
    mapped = {}
    for stream in STREAMS_OF_OTHERS:
        for created in (f"CREATE.{stream}", f"CREATE.{stream}.>"):
            mapped[f"{API}.CONSUMER.{created}"] = f"{REQUESTS}.{created}"
        for verb in ("DURABLE.CREATE", "DELETE"):
            named = f"{verb}.{stream}"
            mapped[f"{API}.CONSUMER.{named}.*"] = f"{REQUESTS}.{named}.{{{{wildcard(1)}}}}"
    return mapped


def asked_as(subject: str) -> tuple[str, ...]:
    """What a client may have published on when NATS names `subject`, which may be a mapped one."""
    for target, source in ((REQUESTS, f"{API}.CONSUMER"), (API, OWN_API)):
        head = f"{target}."
        # nats-py tells what the server says in lower case.
        if subject.lower().startswith(head.lower()):
            return subject, f"{source}.{subject[len(head) :]}"
    return (subject,)

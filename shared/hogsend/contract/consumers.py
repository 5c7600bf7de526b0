"""Consumers of external services: ingest checks every request that creates or deletes one.

JetStream accepts any consumer configuration from a user that may create consumers, and delivers
with the server's permissions. Therefore the configuration of NATS maps the subjects that create and
delete consumers of the external streams to `CONSUMER_REQUESTS`, which ingest serves. Stock clients
need no change. NATS checks permissions on the mapped subject. Only Hogsend's services may publish
to the subjects that JetStream listens on, which they reach through the mapping `OWN_API`
(docs/adr/0012).
"""

from __future__ import annotations

from hogsend.contract.streams import INGEST_CONSUMER, StreamName
from hogsend.contract.users import DEPRECATED_USERS, User

API = "$JS.API"
OWN_API = "hogsend.js"
"""Subject prefix that NATS maps to JetStream's API, for Hogsend's services only."""
CONSUMER_REQUESTS = "hogsend.consumers"
"""Subject prefix of mapped requests, such as `hogsend.consumers.CREATE.<stream>`.

The rest of the subject is as below `$JS.API.CONSUMER`.
"""

CONSUMER_REQUESTS_USER = User.INGEST
"""The user that serves `CONSUMER_REQUESTS`."""
EXTERNAL_STREAMS = (StreamName.EVENTS, StreamName.CREDENTIALS)
"""Streams that external services may read."""
EXTERNAL_USERS = (User.SUBSCRIBER, User.APP, *DEPRECATED_USERS)
"""NATS users of external services."""

MIRROR = "mirror"
"""Analytics' durable on EVENTS, which mirrors events to PostHog."""
PERSONS = "persons"
"""Analytics' durable on PERSONS, which sends person writes to PostHog."""
ANY = "*"
"""Stands for any consumer name."""

OWN_CONSUMERS: dict[User, dict[StreamName, str]] = {
    User.INGEST: {
        # `ingest`, and one for each partition.
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
"""The durable consumers of Hogsend's services, by user. A service may use no others."""


def reserved(stream: StreamName, user: User | None = None) -> set[str]:
    """Names of the consumers of `stream` that belong to Hogsend's services, except to `user`."""
    owned = (names.get(stream) for owner, names in OWN_CONSUMERS.items() if owner is not user)
    return {name for name in owned if name is not None and name != ANY}


def own_api_mapping() -> dict[str, str]:
    """The subject mapping from `OWN_API` to JetStream's API."""
    return {f"{OWN_API}.>": f"{API}.>"}


def consumer_request_mappings() -> dict[str, str]:
    """The subject mappings of external accounts, from JetStream's API to `CONSUMER_REQUESTS`."""
    mapped = {}
    for stream in EXTERNAL_STREAMS:
        for create in (f"CREATE.{stream}", f"CREATE.{stream}.>"):
            mapped[f"{API}.CONSUMER.{create}"] = f"{CONSUMER_REQUESTS}.{create}"
        for verb in ("DURABLE.CREATE", "DELETE"):
            prefix = f"{verb}.{stream}"
            mapped[f"{API}.CONSUMER.{prefix}.*"] = (
                f"{CONSUMER_REQUESTS}.{prefix}.{{{{wildcard(1)}}}}"
            )
    return mapped


def unmapped(subject: str) -> tuple[str, ...]:
    """The subjects that a client may have published to when the server reports `subject`.

    The server reports the mapped subject in its permission errors, not the original one.
    """
    for target, source in ((CONSUMER_REQUESTS, f"{API}.CONSUMER"), (API, OWN_API)):
        prefix = f"{target}."
        # nats-py turns the server's errors into lower case.
        if subject.lower().startswith(prefix.lower()):
            return subject, f"{source}.{subject[len(prefix) :]}"
    return (subject,)

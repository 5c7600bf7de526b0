"""NATS accounts: Hogsend's services share one, and each user of external services has its own.

A client chooses the reply subject of its JetStream requests, and JetStream publishes the reply with
the server's permissions. Within one account the reply subject could be JetStream's own API: an
empty reply to an acknowledgement, published to `STREAM.PURGE`, would empty a stream. A reply to
another account stays in that account, where JetStream does not listen (docs/adr/0031). Therefore
the account of an external service imports only the subjects that its user may publish to (as
services) and subscribe to (as streams).
"""

from __future__ import annotations

import msgspec

from hogsend.contract.consumers import (
    API,
    EXTERNAL_USERS,
    consumer_request_mappings,
    own_api_mapping,
)
from hogsend.contract.discovery import PINGS
from hogsend.contract.permissions import permissions
from hogsend.contract.users import User

OWN = "HOGSEND"
"""The account of Hogsend's services, the operator and all streams."""
GLOBAL = "$G"
"""The server's default account, for users without an account."""
PING_SECONDS = "5s"
"""How long the server waits for the next replica's reply to a ping."""
LONGEST_PULL = "10m"
"""How long a pull request may wait for its next message or heartbeat.

The server keeps the reply subject of the pull for this time, in some 700 bytes. Later messages do
not reach that pull; JetStream delivers them again.
"""


def account_of(user: User) -> str:
    """Name of the account that `user` belongs to."""
    return user.upper() if user in EXTERNAL_USERS else OWN


class Export(msgspec.Struct, frozen=True, omit_defaults=True):
    """A subject that other accounts may import: to send requests, or to receive messages.

    Exactly one of `service` and `stream` is set.
    """

    accounts: list[str]
    service: str | None = None
    """Subject that the accounts may send requests to."""
    stream: str | None = None
    """Subject that the accounts may subscribe to."""
    response: str | None = None
    """`stream` if one request has several replies."""
    threshold: str | None = None
    """How long the server waits for the next reply."""


class Subject(msgspec.Struct, frozen=True):
    """A subject of another account."""

    account: str
    subject: str


class Import(msgspec.Struct, frozen=True, omit_defaults=True):
    """A subject that an account imports from another one, under the same name."""

    service: Subject | None = None
    stream: Subject | None = None


def exports() -> list[Export]:
    """The exports of Hogsend's account to the external accounts, one for each subject."""
    services: dict[str, list[str]] = {}
    streams: dict[str, list[str]] = {}
    for user in EXTERNAL_USERS:
        allowed = permissions(user)
        for subjects, collected in ((allowed.publish, services), (allowed.subscribe, streams)):
            for subject in subjects:
                collected.setdefault(subject, []).append(account_of(user))
    return [
        *(_service(subject, accounts) for subject, accounts in sorted(services.items())),
        *(Export(accounts, stream=subject) for subject, accounts in sorted(streams.items())),
    ]


def imports(user: User) -> list[Import]:
    """The imports of an external user's account: all subjects that the user has permission for."""
    allowed = permissions(user)
    return [
        *(Import(service=Subject(OWN, subject)) for subject in allowed.publish),
        *(Import(stream=Subject(OWN, subject)) for subject in allowed.subscribe),
    ]


def account_mappings(account: str) -> dict[str, str]:
    """The subject mappings of an account."""
    return own_api_mapping() if account == OWN else consumer_request_mappings()


def _service(subject: str, accounts: list[str]) -> Export:
    if subject.startswith(f"{API}.CONSUMER.MSG.NEXT."):
        return Export(accounts, service=subject, response="stream", threshold=LONGEST_PULL)
    if subject.startswith(PINGS):
        return Export(accounts, service=subject, response="stream", threshold=PING_SECONDS)
    return Export(accounts, service=subject)

"""NATS accounts: our services share one, and each user of other people's services has its own.

A client names the reply of what it asks JetStream, and JetStream answers with the server's rights.
Within one account such a reply may be JetStream's own API: an empty answer to an acknowledgement
would empty a stream. What JetStream answers to another account stays in that one, where nothing of
JetStream listens (docs/adr/0031). So an account of others imports what its user may publish, as
services, and what it may hear, as streams, and has nothing else.
"""

from __future__ import annotations

import msgspec

from hogsend.contract.consumers import API, OTHERS, own_api, requests_of_others
from hogsend.contract.permissions import permissions
from hogsend.contract.users import User

OWN = "HOGSEND"
"""The account of our services and of the operator, and of every stream."""
GLOBAL = "$G"
"""NATS' own account, for users that were given none."""
LONGEST_PULL = "10m"
"""How long a pull may wait for its next message or heartbeat; what comes later is delivered again.
For as long the server remembers who asked, in some 700 bytes a pull."""


def account_of(user: User) -> str:
    """Name of the account that a user belongs to."""
    return user.upper() if user in OTHERS else OWN


class Export(msgspec.Struct, frozen=True, omit_defaults=True):
    """What other accounts may import: a service that they ask, or a stream that they hear."""

    accounts: list[str]
    service: str | None = None
    stream: str | None = None
    response: str | None = None
    """`stream` where one request has several answers."""
    threshold: str | None = None
    """How long the server waits for the next of them."""


class Subject(msgspec.Struct, frozen=True):
    """A subject of another account."""

    account: str
    subject: str


class Import(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an account takes from another one, under the same subject."""

    service: Subject | None = None
    stream: Subject | None = None


def exports() -> list[Export]:
    """What our account lets others ask and hear, each subject named once."""
    asked: dict[str, list[str]] = {}
    heard: dict[str, list[str]] = {}
    for user in OTHERS:
        may = permissions(user)
        for subjects, collected in ((may.publish, asked), (may.subscribe, heard)):
            for subject in subjects:
                collected.setdefault(subject, []).append(account_of(user))
    return [
        *(_service(subject, accounts) for subject, accounts in sorted(asked.items())),
        *(Export(accounts, stream=subject) for subject, accounts in sorted(heard.items())),
    ]


def imports(user: User) -> list[Import]:
    """What the account of one of `OTHERS` takes from ours: all that its user may do."""
    may = permissions(user)
    return [
        *(Import(service=Subject(OWN, subject)) for subject in may.publish),
        *(Import(stream=Subject(OWN, subject)) for subject in may.subscribe),
    ]


def account_mappings(account: str) -> dict[str, str]:
    """The subject mappings of an account."""
    return own_api() if account == OWN else requests_of_others()


def _service(subject: str, accounts: list[str]) -> Export:
    if subject.startswith(f"{API}.CONSUMER.MSG.NEXT."):
        return Export(accounts, service=subject, response="stream", threshold=LONGEST_PULL)
    return Export(accounts, service=subject)

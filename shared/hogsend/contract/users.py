"""The NATS users, and what connects as each."""

from __future__ import annotations

from enum import StrEnum


class User(StrEnum):
    """The NATS users: one for each service, two for other people's services, one for operators.

    A `subscriber` only reads events and credential changes; an `app` may also report engagement,
    write persons and ask analytics. `member` is the deprecated name of `app`.
    """

    GATEWAY = "gateway"
    CREDENTIALS = "credentials"
    INGEST = "ingest"
    PROVISIONER = "provisioner"
    ANALYTICS = "analytics"
    SUBSCRIBER = "subscriber"
    APP = "app"
    MEMBER = "member"
    OPERATOR = "operator"


DEPRECATED_USERS = {User.MEMBER: User.APP}
"""Users that were renamed, each with the one whose permissions it shares for one more version."""


DEAD_LETTER_KEEPER = User.INGEST
"""Who lists, replays and purges dead letters, through the `INGEST_*` endpoints below."""
ERASER = User.INGEST
"""Who takes the messages of an erased person off every stream."""

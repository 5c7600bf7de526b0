"""The NATS users, and who is behind each."""

from __future__ import annotations

from enum import StrEnum


class User(StrEnum):
    """The NATS users: one for each service, two for other people's services, one for operators.

    A `subscriber` only reads events and credential changes; a `member` may also report engagement,
    write persons and ask analytics.
    """

    GATEWAY = "gateway"
    CREDENTIALS = "credentials"
    INGEST = "ingest"
    PROVISIONER = "provisioner"
    ANALYTICS = "analytics"
    SUBSCRIBER = "subscriber"
    MEMBER = "member"
    OPERATOR = "operator"


DEAD_LETTER_KEEPER = User.INGEST
"""Who lists, replays and purges dead letters, through the `INGEST_*` endpoints below."""

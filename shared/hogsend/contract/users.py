"""The NATS users: one for each service, and those of external services and operators."""

from __future__ import annotations

from enum import StrEnum


class User(StrEnum):
    """The NATS users: one for each of Hogsend's services, two for external services, one operator.

    `subscriber` may only read events and credential changes. `app` may also report engagement,
    write persons and send requests to analytics. `member` is the deprecated name of `app`.
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
"""Renamed users, each with its new name. The old name stays accepted for one more version."""


DEAD_LETTER_KEEPER = User.INGEST
"""The user that lists, replays and purges dead letters."""
ERASER = User.INGEST
"""The user that deletes the messages of an erased person from every stream."""

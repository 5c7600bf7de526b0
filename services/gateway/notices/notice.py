"""Notices: the bodies of requests to the operator's webhook."""

from __future__ import annotations

from datetime import datetime

import msgspec

from hogsend.contract.notices import NoticeKind, NoticeState


class Problem(msgspec.Struct, frozen=True):
    """A problem of one subject, described for an operator. It contains no secrets."""

    detail: str
    remediation: str


class NoticeData(msgspec.Struct, frozen=True, rename="camel"):
    """The start or the end of a problem."""

    state: NoticeState
    subject: str
    """The provider, destination or gateway that has the problem."""
    detail: str
    remediation: str | None = None
    """What the operator should do; null for the end of a problem."""


class Notice(msgspec.Struct, frozen=True, rename="camel"):
    """Body of a request to the operator's webhook."""

    type: NoticeKind
    timestamp: datetime
    """When the gateway found the problem or its end."""
    data: NoticeData


def raised(kind: NoticeKind, subject: str, problem: Problem, at: datetime) -> Notice:
    """Return the notice of a problem's start."""
    return Notice(kind, at, NoticeData("raised", subject, problem.detail, problem.remediation))


def resolved(kind: NoticeKind, subject: str, at: datetime) -> Notice:
    """Return the notice of a problem's end."""
    return Notice(kind, at, NoticeData("resolved", subject, _RESOLVED[kind]))


_RESOLVED: dict[NoticeKind, str] = {
    "credential.needs_reconnect": "The credential works again.",
    "dead_letters.waiting": "No dead letter waits any more.",
    "destination.failing": "Events are delivered again.",
    "destination.disabled": "PostHog delivers here again, or was disconnected.",
    "spool.in_use": "The spool is empty: webhooks go to JetStream again.",
}

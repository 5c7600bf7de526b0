"""What is sent to the operator's webhook."""

from __future__ import annotations

from datetime import datetime

import msgspec

from hogsend.contract.notices import NoticeKind, NoticeState


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with one subject, as an operator reads it. Never a secret."""

    detail: str
    remediation: str


class NoticeData(msgspec.Struct, frozen=True, rename="camel"):
    """A problem, or its end."""

    state: NoticeState
    subject: str
    """Which provider, destination or gateway it is about."""
    detail: str
    remediation: str | None = None
    """What to do; null when it is over."""


class Notice(msgspec.Struct, frozen=True, rename="camel"):
    """Body of a request to the operator's webhook."""

    type: NoticeKind
    timestamp: datetime
    """When it was found."""
    data: NoticeData


def raised(kind: NoticeKind, subject: str, problem: Problem, at: datetime) -> Notice:
    """Say that there is a problem."""
    return Notice(kind, at, NoticeData("raised", subject, problem.detail, problem.remediation))


def resolved(kind: NoticeKind, subject: str, at: datetime) -> Notice:
    """Say that a problem is over."""
    return Notice(kind, at, NoticeData("resolved", subject, _OVER[kind]))


_OVER: dict[NoticeKind, str] = {
    "credential.needs_reconnect": "The credential works again.",
    "dead_letters.waiting": "No dead letter waits any more.",
    "destination.failing": "Events are delivered again.",
    "destination.disabled": "PostHog delivers here again, or is not connected any more.",
    "spool.in_use": "The spool is empty: webhooks go to JetStream again.",
}

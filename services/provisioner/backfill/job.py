"""A backfill as it is stored: what it reads, and how far it has got."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from hogsend.contract.backfills import Backfill, StartBackfill, State
from hogsend.posthog.api import EventRange


class ProjectCount(msgspec.Struct, frozen=True):
    """The number of events that a backfill would read, and their project."""

    total: int
    project: str
    """Address of the project in PostHog."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A backfill, as it is stored."""

    id: UUID
    project: str | None = None
    """Address of the project in PostHog; None for a backfill of an earlier version, which reads
    any project."""
    state: State
    since: datetime
    until: datetime
    events: list[str]
    announce: bool
    started_at: datetime
    received_at: datetime | None = None
    """Time of receipt of the events that are read now; None means `started_at`."""
    ended_at: datetime | None
    position_at: datetime | None
    position_uuid: str | None
    total: int
    read: int
    stored: int
    known: int
    rejected: int
    left_out: str | None = None
    detail: str | None
    remediation: str | None

    @property
    def remaining(self) -> EventRange:
        """The events that are not stored yet."""
        after = None
        if self.position_at is not None and self.position_uuid is not None:
            after = self.position_at, self.position_uuid
        return EventRange(since=self.since, until=self.until, events=self.events, after=after)

    def to_backfill(self) -> Backfill:
        """Convert to the message of the contract."""
        return Backfill(
            id=str(self.id),
            state=self.state,
            since=self.since,
            until=self.until,
            events=self.events,
            announce=self.announce,
            started_at=self.started_at,
            ended_at=self.ended_at,
            position=self.position_at,
            total=self.total,
            read=self.read,
            stored=self.stored,
            known=self.known,
            rejected=self.rejected,
            left_out=self.left_out,
            detail=self.detail,
            remediation=self.remediation,
        )

    def matches(self, request: StartBackfill) -> bool:
        """Whether a request is for the same events as this backfill."""
        return (self.since, self.events, self.announce) == (
            request.since,
            sorted(request.events),
            request.announce,
        ) and request.until in {None, self.until}

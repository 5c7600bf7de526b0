"""A backfill that has just started."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from services.provisioner.backfill.job import Job

THEN = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(
    id=uuid4(),
    project="https://posthog.example/project/1",
    state="running",
    since=THEN,
    until=THEN,
    events=[],
    announce=False,
    started_at=THEN,
    ended_at=None,
    position_at=None,
    position_uuid=None,
    total=2,
    read=0,
    stored=0,
    known=0,
    rejected=0,
    detail=None,
    remediation=None,
)

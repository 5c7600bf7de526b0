"""A reader of persons with fakes of its dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from prometheus_client import REGISTRY

from hogsend.posthog.capture import Captured
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.persons.access import PersonAccess
from services.analytics.persons.own_writes import OwnWrites
from services.analytics.persons.private_host import PrivateHost
from services.analytics.persons.project_ids import ProjectIds
from services.analytics.persons.read_trial import ReadTrial
from services.analytics.persons.reader import PersonReader
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.fakes import HOST, FakeCredentials, FakeLink, FakePostHog
from tests.virtual_time import now

PLAN = {"plan": "pro"}
PERSONAL = "phx_personal"
LARGE = 800_000
"""Characters of a property."""
PUBLISHED = datetime(2026, 11, 25, tzinfo=UTC)


@dataclass
class Reading:
    """A reader with fakes of its dependencies."""

    posthog: FakePostHog
    link: FakeLink
    credentials: FakeCredentials
    watcher: CredentialWatcher
    bearers: BearerCache
    persons: PersonReader
    trial: ReadTrial
    writes: OwnWrites

    def write(self, **changes: Any) -> None:
        """Record a write; all writes have the same time of publication."""
        self.writes.record(written(**changes), PUBLISHED)


def reading(**posthog: str) -> Reading:
    """Create a reader for the instance with the settings `posthog`."""
    settings = PostHogSettings.model_validate(posthog or {"posthog_private_host": HOST})
    link, recorder = FakeLink(), FakePostHog()
    credentials = FakeCredentials(link, token=PERSONAL, source="personal_key")
    watcher = CredentialWatcher("posthog")
    bearers = BearerCache(link, watcher)
    writes = OwnWrites(now)
    access = PersonAccess(
        bearers,
        PrivateHost(settings, StoredProject(link, watcher)),
        ProjectIds(settings.posthog_project_id, watcher),
        recorder.http,
        watcher,
        clock=now,
    )
    persons = PersonReader(bearers, access, watcher, writes=writes, clock=now)
    trial = ReadTrial(bearers, access, watcher, clock=now)
    return Reading(recorder, link, credentials, watcher, bearers, persons, trial, writes)


def failures(kind: str) -> float:
    labels = {"where": "person_read", "kind": kind}
    return REGISTRY.get_sample_value("hogsend_failures_total", labels) or 0.0


def written(**properties: Any) -> Captured:
    return Captured(
        uuid=uuid4(),
        event="$set",
        distinct_id="u_42",
        timestamp=PUBLISHED,
        properties={f"${name}": value for name, value in properties.items()},
    )

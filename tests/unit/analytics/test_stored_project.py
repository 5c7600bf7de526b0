"""The project key and the private host, which depend on the stored project."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from hogsend.contract.credentials import CREDENTIALS_PROJECT, ProjectReply
from hogsend.contract.errors import Unavailable
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.delivery.sources.built_in import built_in_sources
from services.analytics.persons.private_host import PrivateHost
from services.analytics.project_key import Project, ProjectKey
from services.analytics.settings import AnalyticsSettings
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.fakes import FakeCredentials, FakeLink
from tests.virtual_time import on_virtual_time, settle

OLD = ProjectReply(1, "present", project_api_key="phc_old", private_host="https://old.example.com")
NEW = ProjectReply(2, "present", project_api_key="phc_new", private_host="https://new.example.com")


class Stored:
    """A stored project, with the project key and private host that depend on it."""

    def __init__(self, **posthog: Any) -> None:
        self.link = FakeLink()
        self.credentials = FakeCredentials(self.link, project=OLD)
        self.watcher = CredentialWatcher("posthog")
        stored = StoredProject(self.link, self.watcher)
        settings = PostHogSettings.model_validate(posthog)
        self.key = ProjectKey(settings, stored)
        self.host = PrivateHost(settings, stored)

    async def current(self) -> tuple[str | None, str]:
        """Return the current project key and private host."""
        project = await self.key.project()
        return project.key if project else None, await self.host.find()


@on_virtual_time
async def test_the_environment_takes_precedence_without_a_request() -> None:
    stored = Stored(posthog_api_key="phc_env", posthog_host="https://eu.i.posthog.com/")
    assert stored.key.from_environment
    assert await stored.key.project() == Project("phc_env", "https://eu.i.posthog.com")
    assert await stored.host.find() == "https://eu.posthog.com"
    assert stored.link.requested == []


@on_virtual_time
async def test_the_stored_project_is_requested_once() -> None:
    stored = Stored()
    for _ in range(3):
        assert await stored.current() == ("phc_old", "https://old.example.com")
    assert stored.link.requested == [CREDENTIALS_PROJECT.subject]
    assert not stored.key.from_environment


@pytest.mark.parametrize(
    ("private_host", "configured", "host"),
    [
        ("https://eu.posthog.com", None, "https://eu.i.posthog.com"),
        ("https://ph.example.com/", None, "https://ph.example.com"),
        (None, None, "https://us.i.posthog.com"),
        ("https://eu.posthog.com", "https://proxy.example.com/", "https://proxy.example.com"),
    ],
)
@on_virtual_time
async def test_events_go_to_the_configured_host_or_else_to_the_projects(
    private_host: str | None, configured: str | None, host: str
) -> None:
    stored = Stored(posthog_host=configured)
    stored.credentials.project = ProjectReply(
        1, "present", project_api_key="phc", private_host=private_host
    )
    assert await stored.key.project() == Project("phc", host)


@pytest.mark.parametrize(
    ("reply", "host"),
    [
        (
            {"private_host": "https://a.example.com/", "grant_origin": "https://b"},
            "https://a.example.com",
        ),
        ({"grant_origin": "https://b.example.com"}, "https://b.example.com"),
        ({}, "https://us.posthog.com"),
    ],
)
@on_virtual_time
async def test_the_host_of_the_grant_precedes_posthog_cloud(
    reply: dict[str, Any], host: str
) -> None:
    stored = Stored()
    stored.credentials.project = ProjectReply(1, "present", **reply)
    assert await stored.host.find() == host


@on_virtual_time
async def test_without_a_stored_key_there_is_no_project() -> None:
    stored = Stored()
    stored.credentials.project = ProjectReply(0, "absent")
    assert await stored.key.project() is None


@pytest.mark.parametrize(
    ("seconds", "waits"), [(0, True), (890, True), (910, False), (-60, True), (-910, False)]
)
@on_virtual_time
async def test_events_wait_for_a_project_after_posthog_was_connected(
    seconds: float, waits: bool
) -> None:
    stored = Stored()
    connected_at = datetime.now(UTC) - timedelta(seconds=seconds)
    stored.credentials.project = ProjectReply(1, "absent", connected_at=connected_at)
    # Only events wait: flags have to be evaluated now.
    assert await stored.key.project() is None
    mirrors = AnalyticsSettings(analytics_event_mirror=True)
    for source in built_in_sources(stored.key, mirrors):
        if waits:
            with pytest.raises(Unavailable, match="not stored yet"):
                await source.project()
        else:
            assert await source.project() is None
    stored.credentials.project = msgspec.structs.replace(NEW, connected_at=connected_at)
    stored.watcher.changed(stored.credentials.change("pha_2"))
    project = await stored.key.project_for_events()
    assert project is not None
    assert project.key == "phc_new"


@on_virtual_time
async def test_a_credential_change_refreshes_the_project() -> None:
    stored = Stored()
    await stored.current()
    stored.credentials.project = NEW
    stored.watcher.changed(stored.credentials.change("pha_2"))
    assert await stored.current() == ("phc_new", "https://new.example.com")


@on_virtual_time
async def test_after_a_reconnection_the_project_is_requested_again() -> None:
    stored = Stored()
    await stored.current()
    stored.credentials.project = NEW
    await stored.watcher.reconnected()
    assert await stored.current() == ("phc_new", "https://new.example.com")


@on_virtual_time
async def test_a_reply_from_before_a_change_is_returned_once_and_refreshed() -> None:
    stored = Stored()
    stored.link.gate = gate = asyncio.Event()
    request = asyncio.create_task(stored.key.project())
    await settle()
    stored.watcher.changed(stored.credentials.change("pha_2"))
    # The request that the change causes fails.
    stored.link.replies.clear()
    await settle()
    gate.set()
    assert (await request) == Project("phc_old", "https://old.example.com")
    with pytest.raises(Unavailable):
        await stored.key.project()
    with pytest.raises(Unavailable):
        await stored.host.find()


@on_virtual_time
async def test_the_next_revalidation_compensates_for_a_lost_event() -> None:
    stored = Stored()
    revalidating = asyncio.create_task(stored.watcher.revalidate())
    await stored.current()
    stored.credentials.project = NEW
    await asyncio.sleep(31)
    assert await stored.current() == ("phc_new", "https://new.example.com")
    revalidating.cancel()


@on_virtual_time
async def test_without_the_credentials_service_the_cache_is_valid_until_a_change() -> None:
    stored = Stored()
    await stored.current()
    stored.link.replies.clear()
    await asyncio.sleep(600)
    assert await stored.current() == ("phc_old", "https://old.example.com")
    stored.watcher.changed(stored.credentials.change("pha_2"))
    with pytest.raises(Unavailable):
        await stored.key.project()
    with pytest.raises(Unavailable):
        await stored.host.find()


def test_the_repr_of_a_project_does_not_contain_its_key() -> None:
    assert "phc_secret" not in repr(Project("phc_secret", "https://eu.i.posthog.com"))

"""The default destination (contract 6.1)."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.credentials import ProjectReply
from hogsend.contract.engagement import FUNNEL
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.destinations.default_destination import (
    DefaultDestination,
    with_missing_defaults,
)
from services.analytics.destinations.model import Destination
from services.analytics.project_key import ProjectKey
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.fake_destinations import FakeStore, destination
from tests.unit.analytics.fakes import FakeCredentials, FakeLink
from tests.virtual_time import on_virtual_time


class Instance:
    """An instance that may have a project key."""

    def __init__(self, *stored: Destination) -> None:
        self.link = FakeLink()
        self.credentials = FakeCredentials(self.link)
        self.watcher = CredentialWatcher("posthog")
        self.store = FakeStore(*stored)
        self.key = ProjectKey(PostHogSettings(), StoredProject(self.link, self.watcher))

    def default(self, *, enabled: bool = True) -> DefaultDestination:
        return DefaultDestination(self.store, self.key, enabled=enabled)

    def connect(self) -> None:
        self.credentials.project = ProjectReply(2, "present", project_api_key="phc_1")
        self.watcher.changed(self.credentials.change("pha_1"))


@on_virtual_time
async def test_the_default_destination_is_created_as_soon_as_a_project_key_exists() -> None:
    instance = Instance()
    default = instance.default()
    assert not await default.ensure()
    assert instance.store.rows == {}
    instance.connect()
    assert await default.ensure()
    (created,) = instance.store.rows.values()
    assert (created.is_default, created.event_types) == (True, list(FUNNEL))
    assert created.given == {
        "eventNames": {"email.clicked": "email.link_clicked"},
        "syncPersons": True,
    }


@on_virtual_time
async def test_the_default_destination_is_not_created_unless_it_is_enabled() -> None:
    instance = Instance()
    instance.connect()
    assert await instance.default(enabled=False).ensure()
    assert instance.store.rows == {}


@on_virtual_time
async def test_the_default_destination_waits_for_the_credentials_service_and_postgresql() -> None:
    instance = Instance()
    instance.connect()
    replies, instance.link.replies = instance.link.replies, {}
    assert not await instance.default().ensure()
    instance.link.replies = replies
    instance.store.down = True
    assert not await instance.default().ensure()
    instance.store.down = False
    assert await instance.default().ensure()


@pytest.mark.parametrize("kept", [False, "true", None])
def test_cases_127_and_128_missing_defaults_are_added_and_chosen_values_stay(kept: Any) -> None:
    given = {} if kept is None else {"syncPersons": kept}
    stored = destination(
        event_types=["email.replied", "email.sent"], given=given, disabled=True, is_default=True
    )
    completed = with_missing_defaults(stored)
    missing = [type for type in FUNNEL if type != "email.sent"]
    assert completed.event_types == ["email.replied", "email.sent", *missing]
    assert completed.given == {"syncPersons": True if kept is None else kept}
    assert completed.config.sync_persons == completed.given["syncPersons"]
    assert completed.disabled
    assert with_missing_defaults(completed) == completed

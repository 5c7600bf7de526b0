"""The states of capabilities, and the reasons of those that are off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from hogsend.contract.capabilities import ANALYTICS_CAPABILITIES, Capability
from hogsend.contract.credentials import ProjectReply
from hogsend.contract.errors import Forbidden
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.capabilities import CapabilityReport
from services.analytics.destinations.model import Destination
from services.analytics.persons.access import PersonAccess
from services.analytics.persons.private_host import PrivateHost
from services.analytics.persons.project_ids import ProjectIds
from services.analytics.persons.read_trial import ReadTrial
from services.analytics.project_key import ProjectKey
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.fake_destinations import FakeStore, destination
from tests.unit.analytics.fakes import FakeCredentials, FakeLink
from tests.virtual_time import now, on_virtual_time

STORED_KEY = ProjectReply(1, "present", project_api_key="phc_1")


class Instance:
    """An instance, and its report of capabilities."""

    def __init__(
        self,
        *stored: Destination,
        key: str | None = "phc_env",
        enabled: bool = True,
        **credentials: Any,
    ) -> None:
        self.link, self.store = FakeLink(), FakeStore(*stored)
        FakeCredentials(self.link, **credentials)
        watcher = CredentialWatcher("posthog")
        settings = PostHogSettings.model_validate({"posthog_api_key": key})
        project = StoredProject(self.link, watcher)
        self.response: httpx.Response | Exception = httpx.Response(200, json={"results": []})
        self.requested: list[str] = []
        bearers = BearerCache(self.link, watcher)
        access = PersonAccess(
            bearers,
            PrivateHost(settings, project),
            ProjectIds("4242", watcher),
            httpx.AsyncClient(transport=httpx.MockTransport(self._posthog)),
            watcher,
        )
        self._report = CapabilityReport(
            ReadTrial(bearers, access, watcher),
            ProjectKey(settings, project),
            self.store,
            destination_enabled=enabled,
        )

    async def rows(self) -> dict[str, Capability]:
        """Capabilities by name; each that is off has a remediation."""
        rows = (await self._report.capabilities()).capabilities
        assert all(row.reason for row in rows)
        assert all(row.remediation for row in rows if row.state != "on")
        return {row.name: row for row in rows}

    async def _posthog(self, request: httpx.Request) -> httpx.Response:
        self.requested.append(request.url.path)
        if isinstance(self.response, Exception):
            raise self.response
        return self.response

    async def states(self) -> dict[str, str]:
        """State of each capability, by name."""
        return {name: row.state for name, row in (await self.rows()).items()}


DEFAULT = destination(is_default=True)
OWN_KEY = destination(given={"apiKey": "phc_own"})


@on_virtual_time
async def test_all_capabilities_are_on_with_complete_settings() -> None:
    instance = Instance(DEFAULT, token="phx_1", source="personal_key")
    rows = await instance.rows()
    assert {row.state for row in rows.values()} == {"on"}
    assert "POSTHOG_API_KEY" in rows["eventCapture"].reason
    assert "POSTHOG_PERSONAL_API_KEY" in rows["personReads"].reason


@on_virtual_time
async def test_all_capabilities_are_off_without_settings() -> None:
    rows = await Instance(key=None, enabled=False).rows()
    assert {row.state for row in rows.values()} == {"off"}
    assert "hogsend connect posthog" in (rows["personReads"].remediation or "")
    assert "POSTHOG_API_KEY" in (rows["personWrites"].remediation or "")


@on_virtual_time
async def test_a_connected_project_turns_capabilities_on_without_a_configured_key() -> None:
    rows = await Instance(DEFAULT, key=None, project=STORED_KEY, token="pha_1").rows()
    assert {row.state for row in rows.values()} == {"on"}
    assert "connect posthog" in rows["eventCapture"].reason
    assert "OAuth" in rows["personReads"].reason


@pytest.mark.parametrize("key", ["phc_1", "phc_typo"])
@on_virtual_time
async def test_a_configured_key_of_another_project_than_the_connected_one_is_reported(
    key: str,
) -> None:
    rows = await Instance(DEFAULT, key=key, project=STORED_KEY, token="pha_1").rows()
    assert {row.state for row in rows.values()} == {"on"}
    for name in ("eventCapture", "personWrites"):
        assert ("another key" in rows[name].reason) == (key == "phc_typo")
        assert ("unset it" in (rows[name].remediation or "")) == (key == "phc_typo")


@on_virtual_time
async def test_a_configured_key_turns_captures_on_without_the_credentials_service() -> None:
    instance = Instance(DEFAULT)
    instance.link.replies.clear()
    rows = await instance.rows()
    for name in ("eventCapture", "personWrites", "engagementOut"):
        assert (rows[name].state, rows[name].remediation) == ("on", None)


@on_virtual_time
async def test_events_that_wait_for_a_project_are_reported() -> None:
    connected = ProjectReply(1, "absent", connected_at=datetime.now(UTC))
    rows = await Instance(DEFAULT, key=None, project=connected, token="pha_1").rows()
    for name in ("eventCapture", "personWrites", "engagementOut"):
        assert rows[name].state == "off"
        assert "Events wait for it, 15 minutes at most" in rows[name].reason
        assert "--provision-only" in (rows[name].remediation or "")


@pytest.mark.parametrize(
    ("stored", "key", "enabled", "state"),
    [
        # The default destination needs to be enabled, and a project key.
        ([DEFAULT], "phc_env", True, "on"),
        ([DEFAULT], "phc_env", False, "off"),
        ([DEFAULT], None, True, "off"),
        # A destination that an operator created works without ENABLE_POSTHOG_DESTINATION, and with
        # its own key without a project key.
        ([destination()], "phc_env", False, "on"),
        ([destination()], None, False, "off"),
        ([OWN_KEY], None, False, "on"),
        # Paused destinations do not count.
        ([destination(disabled=True)], "phc_env", True, "off"),
        ([destination(given={"apiKey": "phc_own"}, disabled=True)], None, True, "off"),
        # Not created yet.
        ([], "phc_env", True, "off"),
    ],
)
@on_virtual_time
async def test_engagement_needs_a_destination_that_can_send(
    stored: list[Destination], key: str | None, enabled: bool, state: str
) -> None:
    instance = Instance(*stored, key=key, enabled=enabled)
    assert (await instance.states())["engagementOut"] == state


@on_virtual_time
async def test_capabilities_that_need_the_credentials_service_are_unknown_without_it() -> None:
    instance = Instance(OWN_KEY, key=None)
    instance.link.replies.clear()
    assert await instance.states() == {
        "eventCapture": "unknown",
        "personWrites": "unknown",
        "personReads": "unknown",
        "engagementOut": "on",
    }


@on_virtual_time
async def test_a_request_that_nats_forbids_is_reported_as_forbidden() -> None:
    instance = Instance(OWN_KEY, key=None)

    def forbid(_message: object) -> Any:
        raise Forbidden("no permission")

    instance.link.replies = dict.fromkeys(instance.link.replies, forbid)
    rows = await instance.rows()
    for name in ("eventCapture", "personWrites", "personReads"):
        assert (rows[name].state, rows[name].reason) == ("unknown", "No permission.")
        assert "deploy/nats" in (rows[name].remediation or "")


@on_virtual_time
async def test_without_postgresql_only_engagement_is_unknown() -> None:
    instance = Instance(DEFAULT, token="pha_1")
    instance.store.down = True
    states = await instance.states()
    assert states.pop("engagementOut") == "unknown"
    assert set(states.values()) == {"on"}


@on_virtual_time
async def test_a_frozen_postgresql_leaves_only_engagement_unknown_in_time() -> None:
    instance = Instance(DEFAULT, token="pha_1")
    instance.store.frozen = True
    for _ in range(2):
        began = now()
        states = await instance.states()
        assert now() - began < ANALYTICS_CAPABILITIES.deadline
        assert states.pop("engagementOut") == "unknown"
        assert set(states.values()) == {"on"}
    assert instance.store.reads == 1


@pytest.mark.parametrize(
    ("response", "state", "reason"),
    [
        (httpx.Response(401, json={"detail": "Invalid access token."}), "off", "401"),
        (httpx.Response(403, json={"detail": "no scope"}), "off", "no scope"),
        (httpx.Response(404, json={"detail": "Not found."}), "off", "404"),
        (httpx.Response(503), "off", "503"),
        (httpx.Response(302, headers={"Location": "/login"}), "off", "redirect"),
        (httpx.ConnectError("refused"), "unknown", "cannot be reached"),
        (TimeoutError(), "unknown", "did not answer"),
    ],
    ids=lambda value: getattr(value, "status_code", None),
)
@on_virtual_time
async def test_reads_are_on_only_when_posthog_returns_a_person(
    response: httpx.Response | Exception, state: str, reason: str
) -> None:
    instance = Instance(DEFAULT, token="pha_1")
    instance.response = response
    row = (await instance.rows())["personReads"]
    assert (row.state, reason in row.reason) == (state, True)
    assert set(instance.requested) == {"/api/projects/4242/persons/"}


@on_virtual_time
async def test_no_request_is_sent_to_posthog_without_a_bearer() -> None:
    instance = Instance(DEFAULT)
    assert (await instance.states())["personReads"] == "off"
    assert instance.requested == []


@on_virtual_time
async def test_a_grant_that_waits_for_its_refresh_is_not_reported_as_missing() -> None:
    instance = Instance(DEFAULT, not_refreshed="HTTP 503")
    row = (await instance.rows())["personReads"]
    assert row.state == "off"
    assert "HTTP 503" in row.reason
    assert "connect posthog" not in (row.remediation or "")

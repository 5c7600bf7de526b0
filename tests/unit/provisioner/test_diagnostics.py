"""The diagnosis: every part is reported, and no failing dependency hides another part."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from hogsend.contract.credentials import CredentialStatus, DerivedReply, TokenReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE, Diagnosis
from hogsend.posthog.api import persons
from services.provisioner.diagnosis import diagnostics
from tests.destinations import OTHER_HOST, OTHER_URL, SECRET, WEBHOOK_URL, compliant, inputs
from tests.unit.provisioner.fakes import (
    POSTHOG_URL,
    FakeInstance,
    InMemoryProvisioner,
    compose,
)


async def diagnose(provisioner: InMemoryProvisioner) -> Diagnosis:
    diagnosis = await provisioner.diagnostics.run()
    assert not {request.method for request in provisioner.posthog.requests} - {"GET"}
    return diagnosis


def working(**options: Any) -> InMemoryProvisioner:
    provisioner = compose(**options)
    provisioner.posthog.add("fn", **compliant())
    return provisioner


async def test_a_diagnosis_of_a_working_installation_reports_every_part() -> None:
    provisioner = working()
    diagnosis = await diagnose(provisioner)
    assert diagnosis.private_host == POSTHOG_URL
    assert (diagnosis.credential.state, diagnosis.credential.refresh_failing) == ("present", False)
    assert (diagnosis.person_reads.state, diagnosis.person_reads.through) == ("working", "oauth")
    assert (diagnosis.webhook_secret.state, diagnosis.webhook_secret.source) == (
        "present",
        "environment",
    )
    assert (diagnosis.destination.state, diagnosis.destination.webhook_url) == ("live", WEBHOOK_URL)
    assert diagnosis.scope_gap == []
    assert diagnosis.public_url.loopback is False
    assert diagnosis.provisioning.state == "possible"
    # By distinct id, as persons are read: PostHog takes long to list many persons.
    trial = f"GET /api/projects/4242/persons/?distinct_id={persons.UNKNOWN_ID}"
    assert trial in provisioner.posthog.lines()


async def test_posthogs_time_is_reported_from_its_responses() -> None:
    provisioner = working()
    assert (await diagnose(provisioner)).posthog_now is None
    headers = {"Date": "Fri, 27 Nov 2026 19:06:18 GMT"}
    provisioner.posthog.refuse("GET", "/persons/", 403, **headers)
    posthog_now = (await diagnose(provisioner)).posthog_now
    assert posthog_now is not None
    # Plus the time since the response.
    assert 0 < (posthog_now - datetime(2026, 11, 27, 19, 6, 18, tzinfo=UTC)).total_seconds() < 60
    provisioner = working()
    provisioner.posthog.refuse("GET", "/persons/", 403, Date="yesterday")
    assert (await diagnose(provisioner)).posthog_now is None


async def test_a_configured_project_needs_no_discovery() -> None:
    provisioner = compose(project_id="77")
    diagnosis = await diagnose(provisioner)
    assert (diagnosis.person_reads.state, diagnosis.destination.state) == ("working", "missing")
    assert all("/api/projects/77/" in line for line in provisioner.posthog.lines())


async def test_the_only_project_of_a_grant_is_diagnosed() -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=[77]
    )
    await diagnose(provisioner)
    assert all("/api/projects/77/" in line for line in provisioner.posthog.lines())


async def test_a_project_outside_the_grant_fails_reads_and_destination_with_the_reason() -> None:
    provisioner = compose(project_id="99")
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=[77]
    )
    provisioner.posthog.refuse("GET", "/api/projects/99/", 403)
    diagnosis = await diagnose(provisioner)
    assert diagnosis.person_reads.state == "failing"
    for finding in (diagnosis.person_reads, diagnosis.destination):
        assert "POSTHOG_PROJECT_ID is 99, but the grant covers project 77." in (
            finding.detail or ""
        )
        assert "POSTHOG_PROJECT_ID to 77" in (finding.remediation or "")


async def test_a_personal_key_without_access_to_the_last_opened_project_is_reported() -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(source="personal_key", version=1, token="phx")
    detail = "API key does not have access to the requested project: ID 7."
    provisioner.posthog.refuse("GET", "@current", 403, {"detail": detail})
    diagnosis = await diagnose(provisioner)
    for finding in (diagnosis.person_reads, diagnosis.destination):
        assert detail in (finding.detail or "")
        assert "Set POSTHOG_PROJECT_ID" in (finding.remediation or "")
        assert "scope" not in (finding.remediation or "")


async def test_a_diagnosis_without_any_credential_names_the_connect_command() -> None:
    provisioner = compose(secret=None)
    provisioner.credentials.token = TokenReply(source="none", version=1)
    provisioner.credentials.grant = CredentialStatus(
        version=0, oauth="absent", scopes=[], webhook_secret="absent"
    )
    diagnosis = await diagnose(provisioner)
    assert diagnosis.credential.state == "absent"
    assert (diagnosis.person_reads.state, diagnosis.person_reads.through) == ("off", "none")
    assert (diagnosis.webhook_secret.state, diagnosis.webhook_secret.source) == ("absent", "none")
    assert diagnosis.destination.state == "unknown"
    assert diagnosis.scope_gap == []
    assert (diagnosis.provisioning.state, diagnosis.provisioning.code) == (
        "refused",
        "no_posthog_credential",
    )
    for part in (
        diagnosis.credential,
        diagnosis.person_reads,
        diagnosis.webhook_secret,
        diagnosis.destination,
    ):
        assert "hogsend connect posthog" in (part.remediation or "")
    assert provisioner.posthog.requests == []


async def test_a_grant_that_waits_for_its_refresh_is_not_reported_as_missing() -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(source="none", version=1, not_refreshed="HTTP 503")
    diagnosis = await diagnose(provisioner)
    assert (diagnosis.provisioning.state, diagnosis.provisioning.code) == (
        "refused",
        "no_posthog_credential",
    )
    for part in (diagnosis.person_reads, diagnosis.destination, diagnosis.provisioning):
        assert "HTTP 503" in (part.detail or "")
        assert part.remediation
        assert "connect posthog`" not in part.remediation


async def test_a_diagnosis_without_a_posthog_host_names_the_setting() -> None:
    provisioner = compose(private_host=None)
    diagnosis = await diagnose(provisioner)
    assert diagnosis.private_host is None
    assert diagnosis.credential.state == "present"
    assert (diagnosis.person_reads.state, diagnosis.person_reads.through) == ("unknown", "oauth")
    assert diagnosis.destination.state == "unknown"
    for part in (diagnosis.person_reads, diagnosis.destination, diagnosis.provisioning):
        assert "POSTHOG_HOST" in (part.remediation or "")


async def test_person_reads_may_use_the_personal_key() -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(source="personal_key", version=1, token="phx")
    diagnosis = await diagnose(provisioner)
    assert (diagnosis.person_reads.state, diagnosis.person_reads.through) == (
        "working",
        "personal_key",
    )


async def test_a_generated_secret_is_compared_and_not_shown() -> None:
    provisioner = compose(secret=None)
    provisioner.credentials.store_payload(webhook_secret="minted")
    provisioner.posthog.add("fn", **compliant(inputs=inputs(secret="minted")))
    diagnosis = await diagnose(provisioner)
    assert diagnosis.destination.state == "live"
    assert "minted" not in repr(diagnosis.destination)


async def test_a_configured_secret_takes_precedence_over_a_generated_one() -> None:
    provisioner = working()
    provisioner.credentials.store_payload(webhook_secret="minted")
    assert (await diagnose(provisioner)).destination.state == "live"


async def test_an_unreadable_secret_is_not_compared() -> None:
    provisioner = working(secret=None)
    provisioner.credentials.store_unreadable()
    diagnosis = await diagnose(provisioner)
    assert diagnosis.destination.state == "live"
    assert (diagnosis.provisioning.state, diagnosis.provisioning.code) == (
        "refused",
        "webhook_secret_missing",
    )


async def test_a_destination_recorded_as_provisioned_is_diagnosed_as_own() -> None:
    provisioner = compose(instances={OTHER_HOST: FakeInstance()})
    provisioner.posthog.add("fn", **compliant(inputs=inputs(OTHER_URL, SECRET)))
    assert (await diagnose(provisioner)).destination.state == "elsewhere"
    provisioner.store.urls["4242"] = {"fn": OTHER_URL}
    assert (await diagnose(provisioner)).destination.state == "drifted"


async def test_a_deleted_destination_has_stopped_while_its_project_is_connected() -> None:
    provisioner = compose()
    provisioner.credentials.store_payload(project_id="4242", webhook_secret="minted")
    destination = (await diagnose(provisioner)).destination
    assert (destination.state, destination.stopped) == ("missing", False)
    provisioner.store.urls["4242"] = {"fn": WEBHOOK_URL}
    destination = (await diagnose(provisioner)).destination
    assert (destination.state, destination.stopped) == ("missing", True)
    assert "is gone" in (destination.detail or "")
    # Disconnecting deletes what was stored for the connection; then no destination is expected.
    provisioner.credentials.derived_reply = DerivedReply(version=2, state="absent")
    assert (await diagnose(provisioner)).destination.stopped is False


async def test_a_destination_that_another_instance_took_over_has_stopped() -> None:
    provisioner = compose(instances={OTHER_HOST: FakeInstance()})
    provisioner.credentials.store_payload(project_id="4242")
    provisioner.store.urls["4242"] = {"fn": WEBHOOK_URL}
    provisioner.posthog.add("fn", **compliant(inputs=inputs(OTHER_URL, "foreign")))
    destination = (await diagnose(provisioner)).destination
    assert (destination.state, destination.stopped) == ("elsewhere", True)


async def test_whether_a_destination_has_stopped_is_unknown_without_the_store() -> None:
    provisioner = compose()
    provisioner.credentials.store_payload(project_id="4242", webhook_secret="minted")
    provisioner.store.urls["4242"] = {"fn": WEBHOOK_URL}
    provisioner.store.is_down = True
    destination = (await diagnose(provisioner)).destination
    # False would report that the destination exists again.
    assert (destination.state, destination.stopped) == ("missing", None)
    provisioner.credentials.derived_reply = DerivedReply(version=2, state="absent")
    assert (await diagnose(provisioner)).destination.stopped is False


async def test_whether_a_destination_has_stopped_is_unknown_without_the_secrets() -> None:
    provisioner = compose(secret=None)
    provisioner.credentials.store_payload(webhook_secret="minted")
    provisioner.posthog.add("fn", **compliant(inputs=inputs(secret="another")))
    assert (await diagnose(provisioner)).destination.stopped is True
    # The token is cached, so PostHog is still called.
    provisioner.credentials.failures["derived"] = Unavailable("down")
    assert (await diagnose(provisioner)).destination.stopped is None
    provisioner.posthog.add("fn", **compliant(inputs=inputs(OTHER_URL, "another")))
    assert (await diagnose(provisioner)).destination.stopped is not False


async def test_a_database_that_is_down_does_not_hide_the_destination() -> None:
    provisioner = working()
    provisioner.store.is_down = True
    assert (await diagnose(provisioner)).destination.state == "live"


async def test_the_other_parts_are_reported_without_the_credentials_service() -> None:
    provisioner = working()
    provisioner.credentials.fail_all()
    diagnosis = await diagnose(provisioner)
    assert diagnosis.credential.state == "unknown"
    assert diagnosis.person_reads.state == "unknown"
    assert diagnosis.webhook_secret.state == "present"
    assert diagnosis.destination.state == "unknown"
    assert diagnosis.provisioning.state == "unknown"
    assert diagnosis.public_url.loopback is False
    assert "hogsend status" in (diagnosis.credential.remediation or "")


@pytest.mark.parametrize("part", ["bearer", "derived", "status"])
async def test_a_failed_request_to_credentials_hides_only_its_part(part: str) -> None:
    provisioner = working()
    provisioner.credentials.failures[part] = Unavailable("down")
    diagnosis = await diagnose(provisioner)
    assert (diagnosis.credential.state == "unknown") is (part == "status")
    assert (diagnosis.destination.state == "live") is (part != "bearer")
    assert (diagnosis.person_reads.state == "working") is (part != "bearer")
    assert diagnosis.webhook_secret.state == "present"


@pytest.mark.parametrize(
    ("status", "named"), [(403, "person:read"), (401, "connect"), (500, "500")]
)
async def test_failing_person_reads_do_not_hide_other_parts(status: int, named: str) -> None:
    provisioner = working()
    detail = "API key missing required scope 'person:read'"
    provisioner.posthog.refuse("GET", "persons", status, {"detail": detail})
    diagnosis = await diagnose(provisioner)
    reads = diagnosis.person_reads
    assert (reads.state, reads.through) == ("failing", "oauth")
    assert str(status) in (reads.detail or "")
    assert named in f"{reads.detail}{reads.remediation}"
    assert diagnosis.destination.state == "live"


@pytest.mark.parametrize(
    ("status", "teams", "configured", "remedy"),
    [
        (404, [], None, "Set POSTHOG_PROJECT_ID"),
        (404, [], "77", "Set POSTHOG_PROJECT_ID"),
        (404, [77], None, "PostHog answered something unexpected."),
        (400, [], "77", "PostHog answered something unexpected."),
        (403, [77], None, "The credential lacks a scope"),
        (500, [77], "99", "PostHog itself failed."),
    ],
)
async def test_failing_person_reads_have_the_remedy_of_their_cause(
    status: int, teams: list[int], configured: str | None, remedy: str
) -> None:
    provisioner = compose(project_id=configured)
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=teams
    )
    provisioner.posthog.refuse("GET", "persons", status, {"detail": "no"})
    reads = (await diagnose(provisioner)).person_reads
    assert (reads.remediation or "").startswith(remedy)
    assert "grant covers" not in (reads.detail or "")
    # The project is read only where it may explain a 404, and was not read before.
    projects = [line for line in provisioner.posthog.lines() if line.count("/") == 4]
    assert len(projects) == (status == 404)


@pytest.mark.parametrize("status", [429, 500])
async def test_remedies_of_a_diagnosis_end_with_another_diagnosis(status: int) -> None:
    provisioner = working()
    provisioner.posthog.refuse("GET", "/", status, {"detail": "no"})
    diagnosis = await diagnose(provisioner)
    for finding in (diagnosis.person_reads, diagnosis.destination):
        assert (finding.remediation or "").endswith("then run `hogsend doctor` again.")


async def test_a_token_that_was_just_rejected_is_tried_again() -> None:
    """Until it is refreshed, other requests do not use it for a while."""
    provisioner = working()
    provisioner.credentials.cached = TokenReply(source="none", version=1)
    assert (await diagnose(provisioner)).person_reads.state == "working"
    provisioner.posthog.refuse("GET", "persons", 401, {"detail": "no"})
    diagnosis = await diagnose(provisioner)
    assert (diagnosis.person_reads.state, diagnosis.provisioning.state) == ("failing", "possible")
    assert "401" in (diagnosis.person_reads.detail or "")


async def test_a_failing_list_of_destinations_does_not_hide_other_parts() -> None:
    provisioner = working()
    detail = "API key missing required scope 'hog_function:read'"
    provisioner.posthog.refuse("GET", "hog_functions", 403, {"detail": detail})
    diagnosis = await diagnose(provisioner)
    assert diagnosis.person_reads.state == "working"
    assert diagnosis.destination.state == "unknown"
    assert "403" in (diagnosis.destination.detail or "")
    assert "hog_function:write" in (diagnosis.destination.remediation or "")


async def test_a_posthog_without_hog_functions_is_reported_with_the_manual_setup() -> None:
    provisioner = working()
    provisioner.posthog.refuse("GET", r"hog_functions/\?", 404)
    remediation = (await diagnose(provisioner)).destination.remediation or ""
    assert "manually" in remediation
    assert WEBHOOK_URL in remediation


@pytest.mark.parametrize(
    ("teams", "configured", "names"),
    [
        ([77], None, "Run `hogsend connect posthog` again and choose another project."),
        ([], "77", "Set POSTHOG_PROJECT_ID"),
    ],
)
async def test_a_deleted_project_is_reported_and_read_once(
    teams: list[int], configured: str | None, names: str
) -> None:
    provisioner = compose(project_id=configured)
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=teams
    )
    provisioner.posthog.refuse("GET", "/api/projects/77/", 404, {"detail": "Project not found."})
    diagnosis = await diagnose(provisioner)
    for finding in (diagnosis.person_reads, diagnosis.destination):
        assert "Project 77 is gone or out of reach." in (finding.detail or "")
        assert names in (finding.remediation or "")
        assert "upgrade" not in (finding.remediation or "")
    assert provisioner.posthog.lines().count("GET /api/projects/77/") == 1


async def test_a_404_of_hog_functions_in_an_existing_project_means_an_old_posthog() -> None:
    provisioner = compose(project_id="77")
    provisioner.posthog.refuse("GET", r"hog_functions/\?", 404)
    diagnosis = await diagnose(provisioner)
    assert diagnosis.person_reads.state == "working"
    assert "upgrade" in (diagnosis.destination.remediation or "")
    assert provisioner.posthog.lines().count("GET /api/projects/77/") == 1


async def test_a_404_of_hog_functions_means_an_old_posthog_when_the_project_cannot_be_read() -> (
    None
):
    provisioner = compose(project_id="77")
    provisioner.posthog.refuse("GET", r"hog_functions/\?", 404)
    provisioner.posthog.refuse("GET", "/api/projects/77/$", 500)
    diagnosis = await diagnose(provisioner)
    assert "upgrade" in (diagnosis.destination.remediation or "")


async def test_a_failing_posthog_does_not_hide_other_parts() -> None:
    provisioner = working()
    provisioner.posthog.refuse(".*", ".*", 503, b"down")
    diagnosis = await diagnose(provisioner)
    assert diagnosis.credential.state == "present"
    assert diagnosis.webhook_secret.state == "present"
    assert diagnosis.person_reads.state == "failing"
    assert diagnosis.destination.state == "unknown"
    assert "503" in (diagnosis.destination.detail or "")


@pytest.mark.parametrize("project", [{}, {"id": None}])
async def test_a_project_without_an_id_is_a_failing_read(project: Any) -> None:
    provisioner = working()
    provisioner.posthog.project = project
    diagnosis = await diagnose(provisioner)
    assert (diagnosis.person_reads.state, diagnosis.destination.state) == ("failing", "unknown")
    assert "no id" in (diagnosis.destination.detail or "")


async def test_a_slow_destination_check_does_not_hide_other_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diagnostics, "DESTINATION_SECONDS", 0.05)
    provisioner = working()
    provisioner.posthog.hang("hog_functions")
    diagnosis = await diagnose(provisioner)
    assert diagnosis.person_reads.state == "working"
    assert diagnosis.destination.state == "unknown"
    assert "0.05 s" in (diagnosis.destination.detail or "")


async def test_a_live_destination_is_reported_when_another_one_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provisioner = working()
    provisioner.posthog.add("broken", **compliant())
    provisioner.posthog.refuse("GET", "/broken/", 500)
    assert (await diagnose(provisioner)).destination.state == "live"
    monkeypatch.setattr(diagnostics, "DESTINATION_SECONDS", 0.05)
    provisioner.posthog.hang("/broken/")
    assert (await diagnose(provisioner)).destination.state == "live"


async def test_a_credentials_service_that_hangs_does_not_hide_other_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diagnostics, "BEARER_SECONDS", 0.05)
    provisioner = working()

    async def hang(_seconds: float) -> TokenReply:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(provisioner.credentials, "cached_bearer", hang)
    diagnosis = await diagnose(provisioner)
    assert (diagnosis.credential.state, diagnosis.webhook_secret.state) == ("present", "present")
    for part in (diagnosis.person_reads, diagnosis.destination, diagnosis.provisioning):
        assert part.state == "unknown"
        assert "hogsend status" in (part.remediation or "")


async def test_a_database_that_hangs_does_not_hide_other_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(diagnostics, "STORE_SECONDS", 0.05)
    provisioner = working()
    provisioner.store.is_frozen = True
    async with asyncio.timeout(5):
        diagnosis = await diagnose(provisioner)
    assert (diagnosis.person_reads.state, diagnosis.destination.state) == ("working", "live")


async def test_all_limits_together_stay_below_the_endpoints_deadline() -> None:
    provisioner = working()
    await diagnose(provisioner)
    assert provisioner.credentials.deadlines == [diagnostics.BEARER_SECONDS]
    destination = diagnostics.STORE_SECONDS + diagnostics.DESTINATION_SECONDS
    slowest = max(destination, persons.CHECK_SECONDS)
    together = diagnostics.BEARER_SECONDS + diagnostics.PROJECT_SECONDS + slowest
    assert together < PROVISIONER_DIAGNOSE.deadline


async def test_a_loopback_public_url_is_reported() -> None:
    diagnosis = await diagnose(working(public_url="http://localhost:3002"))
    assert (diagnosis.public_url.url, diagnosis.public_url.loopback) == (
        "http://localhost:3002",
        True,
    )
    assert diagnosis.provisioning.code == "api_public_url_unreachable"

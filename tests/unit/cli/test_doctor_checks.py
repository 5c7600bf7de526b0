"""The marks, texts and fixes of `hogsend doctor`, for each finding of the server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cli.doctor.checks import (
    Check,
    Mark,
    Verdict,
    credential_checks,
    duration,
    health_checks,
    verdict_of,
)
from cli.doctor.diagnosis import Diagnosis, diagnosis_checks
from cli.health import Health
from tests.cli.fakes import GATEWAY_HEALTH, HEALTHY_DIAGNOSIS


def check_of(name: str, **changes: Any) -> Check:
    """Return the check of this name, for a healthy diagnosis with these parts replaced."""
    diagnosis = msgspec.convert({**HEALTHY_DIAGNOSIS, **changes}, Diagnosis)
    (check,) = [check for check in diagnosis_checks(diagnosis) if check.name == name]
    return check


def part_check(name: str, part: dict[str, Any]) -> Check:
    """Return the check of a service, for a health document with this part."""
    services = {**GATEWAY_HEALTH["services"], name: part}
    health = msgspec.convert({**GATEWAY_HEALTH, "services": services}, Health)
    (check,) = [check for check in health_checks(health) if check.name == name]
    return check


@pytest.mark.parametrize("host", [None, "https://eu.posthog.com"])
def test_an_unknown_part_is_a_note_only_without_a_host(host: str | None) -> None:
    mark = Mark.NOTE if host is None else Mark.UNKNOWN
    unknown = {"state": "unknown"}
    assert check_of("destination", privateHost=host, destination=unknown).mark is mark
    assert check_of("person reads", privateHost=host, personReads=unknown).mark is mark
    posthog = check_of("PostHog", privateHost=host)
    assert (posthog.mark, posthog.text) == (
        (Mark.NOTE, "no host is configured") if host is None else (Mark.OK, host)
    )


@pytest.mark.parametrize(
    ("state", "failing", "mark"),
    [
        ("present", False, Mark.OK),
        ("present", True, Mark.NOTE),
        ("absent", False, Mark.NOTE),
        ("needs_reconnect", True, Mark.PROBLEM),
        ("unreadable", False, Mark.PROBLEM),
        ("unknown", False, Mark.UNKNOWN),
    ],
)
def test_a_failing_refresh_is_reported_and_never_weakens_a_problem(
    state: str, failing: bool, mark: Mark
) -> None:
    credential = {"state": state, "refreshFailing": failing}
    check = check_of("OAuth credential", credential=credential)
    assert (check.mark, "refresh is failing" in check.text) == (mark, failing)
    assert check.is_well is (mark in {Mark.OK, Mark.NOTE})


def test_an_unknown_part_is_a_note_while_person_reads_are_off() -> None:
    off = {"state": "off"}
    assert check_of("destination", personReads=off, destination={"state": "unknown"}).mark is (
        Mark.NOTE
    )


@pytest.mark.parametrize("reads", ["off", "working"])
def test_a_problem_stays_one_without_a_connection(reads: str) -> None:
    for changes in ({}, {"privateHost": None}):
        check = check_of(
            "destination",
            personReads={"state": reads},
            destination={"state": "disabled"},
            **changes,
        )
        assert check.mark is Mark.PROBLEM


@pytest.mark.parametrize(
    ("signatures", "mark", "text"),
    [
        ({"state": "signed"}, Mark.OK, "signed"),
        (
            {"state": "signed", "required": True},
            Mark.OK,
            "signed, and only signed webhooks are accepted",
        ),
        ({"state": "signed", "detail": "Some are not."}, Mark.NOTE, "signed"),
        ({"state": "unsigned"}, Mark.NOTE, "unsigned"),
        ({"state": "unknown"}, Mark.NOTE, "unknown"),
        ({"state": "refused"}, Mark.PROBLEM, "refused"),
    ],
)
def test_each_state_of_signatures_has_its_mark_and_text(
    signatures: dict[str, Any], mark: Mark, text: str
) -> None:
    check = check_of("signatures", signatures=signatures)
    assert (check.mark, check.text) == (mark, text)


@pytest.mark.parametrize(
    ("expires_at", "text"),
    [("2020-01-01T00:00:00Z", "expired at"), ("2999-01-01T00:00:00Z", "valid until")],
)
def test_the_expiry_of_a_token_is_past_or_future(expires_at: str, text: str) -> None:
    check = check_of("OAuth credential", credential={"state": "present", "expiresAt": expires_at})
    assert check.text == f"present, token {text} {expires_at}"


@pytest.mark.parametrize("expires_at", ["2020-01-01T00:00:00", "soon"])
def test_an_expiry_that_is_no_moment_is_printed_unchanged(expires_at: str) -> None:
    check = check_of("OAuth credential", credential={"state": "present", "expiresAt": expires_at})
    assert check.text == f"present, token valid until {expires_at}"


@pytest.mark.parametrize("gap", [[], ["query:read"]])
def test_a_grant_with_and_without_a_gap_of_scopes(gap: list[str]) -> None:
    check = check_of("scopes", scopeGap=gap)
    assert (check.mark, check.text) == (
        (Mark.NOTE, "not granted: query:read") if gap else (Mark.OK, "all granted")
    )


@pytest.mark.parametrize("loopback", [False, True])
def test_a_loopback_address_is_a_note(loopback: bool) -> None:
    check = check_of("public URL", publicUrl={"url": "http://here", "loopback": loopback})
    assert (check.mark, check.text) == (
        (Mark.NOTE, "http://here, a loopback address") if loopback else (Mark.OK, "http://here")
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("none", "absent"),
        ("environment", "absent, from POSTHOG_WEBHOOK_SECRET"),
        ("of the future", "absent, of the future"),
    ],
)
def test_the_source_of_a_secret_is_named_if_it_has_one(source: str, text: str) -> None:
    secret = {"state": "absent", "source": source}
    assert check_of("webhook secret", webhookSecret=secret).text == text


@pytest.mark.parametrize(
    ("state", "words", "has_default"),
    [
        ("unreadable", {}, True),
        ("unreadable", {"detail": "The server's."}, False),
        ("unreadable", {"remediation": "The server's."}, False),
        ("present", {}, False),
        ("absent", {}, False),
    ],
)
def test_only_a_problem_without_any_text_of_the_server_has_the_default_fix(
    state: str, words: dict[str, str], has_default: bool
) -> None:
    check = check_of("webhook secret", webhookSecret={"state": state, **words})
    assert any("log of the provisioner" in (line or "") for line in check.below) is has_default
    assert [line for line in check.below if line == "The server's."] == [*words.values()]


@pytest.mark.parametrize(
    ("part", "mark", "text"),
    [
        ({"status": "up"}, Mark.OK, "up"),
        (
            {"status": "up", "latencyMs": 1.23, "uptime": 7200, "database": "up"},
            Mark.OK,
            "up, 1.2 ms, up for 2 hours",
        ),
        ({"status": "up", "database": "down"}, Mark.PROBLEM, "up, database down"),
        ({"status": "down"}, Mark.PROBLEM, "down"),
        ({"status": "down", "waitsFor": "NATS"}, Mark.PROBLEM, "down, waiting: NATS"),
        ({"status": "unknown"}, Mark.UNKNOWN, "unknown"),
        ({"status": "up", "workers": 2, "workersUp": 2}, Mark.OK, "up, 2 of 2 workers"),
        ({"status": "up", "workers": 2}, Mark.PROBLEM, "up, 0 of 2 workers"),
        ({"status": "up", "problems": ["Disk full."]}, Mark.PROBLEM, "up"),
        ({"status": "up", "webhookLimitBytes": 10}, Mark.PROBLEM, "up"),
    ],
)
def test_each_state_of_a_service_has_its_mark_and_text(
    part: dict[str, Any], mark: Mark, text: str
) -> None:
    check = part_check("ingest", part)
    assert (check.mark, check.text) == (mark, text)
    assert bool(check.below) is (mark is not Mark.OK)


def test_a_part_that_is_down_and_lacks_workers_has_the_fix_of_a_part_that_is_down() -> None:
    check = part_check("gateway", {"status": "down", "workers": 2, "waitsFor": "spool"})
    assert any("SPOOL_MAX_BYTES" in (line or "") for line in check.below)


def test_a_part_with_problems_names_what_starts_it_only_while_it_is_down() -> None:
    up = part_check("ingest", {"status": "up", "problems": ["Disk full."]})
    down = part_check("ingest", {"status": "down", "problems": ["Disk full."]})
    assert up.below[0] == down.below[0] == "Disk full."
    assert down.below[:-1] == up.below
    assert "start the ingest service" in (down.below[-1] or "")


@pytest.mark.parametrize(
    ("part", "fix"),
    [
        ({"status": "up", "database": "down"}, "start PostgreSQL"),
        ({"status": "down", "database": "down", "waitsFor": "PostgreSQL"}, "start PostgreSQL"),
        ({"status": "down", "database": "down"}, "start the ingest service"),
        ({"status": "down", "database": "up", "waitsFor": "NATS"}, "continues by itself"),
        ({"status": "down"}, "start the ingest service"),
        ({"status": "unknown", "waitsFor": "spool"}, "start NATS: without it the gateway"),
        ({"status": "down", "waitsFor": "spool"}, "SPOOL_MAX_BYTES"),
    ],
)
def test_the_fix_of_a_service_is_that_of_its_cause(part: dict[str, Any], fix: str) -> None:
    (line,) = part_check("ingest", part).below
    assert fix in (line or "")


@pytest.mark.parametrize(
    ("track", "mark", "text"),
    [
        ({"inSync": True}, None, None),
        ({"inSync": False, "pending": ["2"]}, Mark.PROBLEM, "migrations pending: 2"),
        ({"inSync": True, "pending": ["2"]}, Mark.PROBLEM, "migrations pending: 2"),
        ({"inSync": False, "applied": None}, Mark.UNKNOWN, "no service could check it"),
        ({"inSync": False}, Mark.PROBLEM, "migrations pending: the schema is behind"),
    ],
)
@pytest.mark.parametrize("name", ["schema", "client schema"])
def test_each_state_of_the_migrations_has_its_mark_and_text(
    name: str, track: dict[str, Any], mark: Mark | None, text: str | None
) -> None:
    synced = {"inSync": True, "pending": [], "applied": "1"}
    tracks = {"engine": synced, "client": synced}
    tracks["engine" if name == "schema" else "client"] = {**synced, **track}
    health = msgspec.convert({**GATEWAY_HEALTH, "schema": tracks}, Health)
    schemas = [
        (check.name, check.mark, check.text, bool(check.below))
        for check in health_checks(health)
        if check.name.endswith("schema")
    ]
    expected = (
        ("schema", Mark.OK, "all migrations applied", False)
        if mark is None
        else (name, mark, text, True)
    )
    assert schemas == [expected]


@pytest.mark.parametrize(
    ("state", "service", "mark", "fix"),
    [
        ("present", "up", None, None),
        ("absent", "up", None, None),
        ("needs_reconnect", "up", Mark.PROBLEM, "run `hogsend connect posthog` again"),
        ("unreadable", "up", Mark.PROBLEM, "BETTER_AUTH_SECRET_PREVIOUS"),
        ("unknown", "down", Mark.UNKNOWN, "start the credentials service"),
        ("unknown", None, Mark.UNKNOWN, "start the credentials service"),
        ("unknown", "unknown", Mark.UNKNOWN, "start NATS"),
    ],
)
def test_a_credential_with_a_problem_has_its_mark_and_fix(
    state: str, service: str | None, mark: Mark | None, fix: str | None
) -> None:
    services = {"credentials": {"status": service}} if service else {}
    document = {
        **GATEWAY_HEALTH,
        "services": services,
        "credentials": {"posthog": {"state": state}},
    }
    checks = credential_checks(msgspec.convert(document, Health))
    assert [check.mark for check in checks] == ([mark] if mark else [])
    for check in checks:
        assert (check.name, check.text) == ("posthog credential", state.replace("_", " "))
        assert (fix or "") in (check.below[0] or "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (172_799, "48 hours"),
        (172_800, "2 days"),
    ],
)
def test_a_duration_has_the_largest_unit_of_which_there_are_two(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("status", "mark", "key_refused", "verdict"),
    [
        ("healthy", Mark.OK, False, Verdict.OK),
        ("healthy", Mark.NOTE, False, Verdict.OK),
        ("healthy", Mark.UNKNOWN, False, Verdict.DEGRADED),
        ("healthy", Mark.PROBLEM, False, Verdict.DEGRADED),
        ("healthy", Mark.PROBLEM, True, Verdict.UNAUTHORIZED),
        ("degraded", Mark.OK, True, Verdict.DEGRADED),
        ("migration_pending", Mark.OK, False, Verdict.MIGRATION_PENDING),
        ("of the future", Mark.OK, False, Verdict.DEGRADED),
    ],
)
def test_the_verdict_is_the_worst_of_the_document_the_checks_and_the_key(
    status: str, mark: Mark, key_refused: bool, verdict: Verdict
) -> None:
    health = msgspec.convert({**GATEWAY_HEALTH, "status": status}, Health)
    checks = [Check(Mark.OK, "one", "fine"), Check(mark, "other", "text")]
    assert verdict_of(health, checks, key_refused=key_refused) is verdict

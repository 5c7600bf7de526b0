"""`hogsend doctor` (contract 8.6, cases 169 and 170) and `hogsend status`, with fake servers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from cli.commands import status
from tests.cli.fakes import (
    ADMIN_KEY,
    CONNECT_INFO,
    DEAD_LETTERS,
    DIAGNOSIS,
    GATEWAY_HEALTH,
    HEALTH,
    HEALTHY_DIAGNOSIS,
    UPSTREAM_HEALTH,
    FakeHogsend,
)
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli

LOCAL_JUDGEMENT = "judging by the settings here"


def replaced(document: dict[str, Any], *path: str, to: Any) -> dict[str, Any]:
    """Return a copy of `document` with one value replaced."""
    copied = copy.deepcopy(document)
    parent = copied
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = to
    return copied


def set_diagnosis(hogsend: FakeHogsend, *path: str, to: Any) -> None:
    hogsend.diagnosis = CannedResponse(200, replaced(HEALTHY_DIAGNOSIS, *path, to=to))


@pytest.mark.parametrize("health", [UPSTREAM_HEALTH, GATEWAY_HEALTH])
def test_case_169_a_healthy_server_is_ok_without_an_admin_key(
    cli: Cli, hogsend: FakeHogsend, health: dict[str, Any]
) -> None:
    hogsend.health = CannedResponse(200, health)
    outcome = cli.doctor(admin_key=None)
    assert outcome.code == 0
    assert f"{hogsend.url} is ok" in outcome.out
    assert hogsend.lines == [HEALTH]
    assert "authorization" not in hogsend.requests[0].headers
    assert "HOGSEND_ADMIN_KEY" in outcome.out


def test_case_169_health_is_requested_without_the_admin_key(cli: Cli, hogsend: FakeHogsend) -> None:
    assert cli.doctor().code == 0
    assert hogsend.lines == [HEALTH, CONNECT_INFO, DIAGNOSIS, DEAD_LETTERS]
    assert ["authorization" in request.headers for request in hogsend.requests] == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("degraded", "degraded"),
        ("migration_pending", "migration_pending"),
        ("of the future", "degraded"),
    ],
)
def test_case_169_an_unhealthy_status_fails_with_its_verdict(
    cli: Cli, hogsend: FakeHogsend, status: str, verdict: str
) -> None:
    hogsend.health = CannedResponse(200, {**GATEWAY_HEALTH, "status": status})
    outcome = cli.doctor(json=True)
    assert (outcome.code, outcome.json["ok"], outcome.json["verdict"]) == (1, False, verdict)


@pytest.mark.parametrize(
    "response",
    [
        CannedResponse(500, {"error": "Internal Server Error"}),
        CannedResponse(404, {"error": "Not Found"}),
        CannedResponse(302, {}, location="https://login.example/"),
        CannedResponse(200, b"<html>"),
        CannedResponse(200, {"status": "healthy"}),
        CannedResponse(
            200, {key: value for key, value in UPSTREAM_HEALTH.items() if key != "schema"}
        ),
    ],
)
def test_case_169_a_response_that_is_not_a_health_document_is_unreachable(
    cli: Cli, hogsend: FakeHogsend, response: CannedResponse
) -> None:
    hogsend.health = response
    outcome = cli.doctor(json=True)
    assert outcome.code == 1
    assert outcome.json == {
        "ok": False,
        "verdict": "unreachable",
        "baseUrl": hogsend.url,
        "error": outcome.json["error"],
        "fix": outcome.json["fix"],
    }
    assert outcome.json["error"]
    assert hogsend.lines == [HEALTH]
    assert cli.doctor().err.startswith("error: unreachable: ")


def test_case_169_a_server_that_does_not_respond_is_unreachable(cli: Cli) -> None:
    outcome = cli.doctor(url="http://127.0.0.1:1", json=True)
    assert (outcome.code, outcome.json["verdict"]) == (1, "unreachable")
    assert outcome.json["baseUrl"] == "http://127.0.0.1:1"


def test_case_170_person_reads_are_judged_by_the_local_settings(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LOCAL_JUDGEMENT not in cli.doctor(admin_key=None).out
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_test")
    outcome = cli.doctor(admin_key=None)
    assert outcome.code == 0
    assert LOCAL_JUDGEMENT in outcome.out
    assert "POSTHOG_PERSONAL_API_KEY" in outcome.out
    document = cli.doctor(admin_key=None, json=True)
    assert document.code == 0
    assert "person" not in document.everything
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_test")
    assert LOCAL_JUDGEMENT not in cli.doctor(admin_key=None).out


def test_case_170_the_env_file_counts_as_local_settings(cli: Cli) -> None:
    Path(".env").write_text("POSTHOG_API_KEY=phc_test\n")
    assert LOCAL_JUDGEMENT in cli.doctor(admin_key=None).out
    Path(".env").write_text("POSTHOG_API_KEY=phc_test\nPOSTHOG_PERSONAL_API_KEY=phx_test\n")
    assert LOCAL_JUDGEMENT not in cli.doctor(admin_key=None).out


def test_case_170_the_servers_diagnosis_replaces_the_local_settings(
    cli: Cli, hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_test")
    assert LOCAL_JUDGEMENT not in cli.doctor().out
    assert LOCAL_JUDGEMENT in cli.doctor(admin_key="another").out
    hogsend.diagnosis = CannedResponse(404, {"error": "Not Found"})
    assert LOCAL_JUDGEMENT in cli.doctor().out
    hogsend.info["personalKeyConfigured"] = True
    assert LOCAL_JUDGEMENT not in cli.doctor().out


def test_json_output_contains_health_diagnosis_and_dead_letters(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    outcome = cli.doctor(json=True)
    assert outcome.code == 0
    assert outcome.json == {
        "ok": True,
        "verdict": "ok",
        "baseUrl": hogsend.url,
        **{
            key: GATEWAY_HEALTH[key]
            for key in ("version", "uptime", "timestamp", "components", "schema", "services")
        },
        "analytics": HEALTHY_DIAGNOSIS,
        "deadLetters": 0,
    }


def test_an_upstream_server_without_a_diagnosis_is_ok(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.health = CannedResponse(200, UPSTREAM_HEALTH)
    hogsend.diagnosis = CannedResponse(404, {"error": "Not Found"})
    outcome = cli.doctor(json=True)
    assert outcome.code == 0
    assert outcome.json["analytics"] == {"connectInfo": hogsend.info}
    assert "services" not in outcome.json
    shown = cli.doctor()
    assert shown.code == 0
    for text in ("redis", "worker", "has no diagnosis", "personal key", "https://t.example.com"):
        assert text in shown.out


def test_a_missing_host_or_public_url_is_reported_from_connect_info(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.diagnosis = CannedResponse(404, {"error": "Not Found"})
    hogsend.info.update(
        privateHost=None, apiPublicUrl="http://localhost:3002", scopeGap=["query:read"]
    )
    outcome = cli.doctor()
    assert outcome.code == 0
    for text in ("no host is configured", "API_PUBLIC_URL", "not granted: query:read"):
        assert text in outcome.out


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_a_problem(cli: Cli, hogsend: FakeHogsend, status: int) -> None:
    outcome = cli.doctor(admin_key="another")
    assert outcome.code == 1
    assert "problem  admin key" in outcome.out
    assert "401: Unauthorized" in outcome.out
    assert "ADMIN_API_KEY" in outcome.out
    document = cli.doctor(admin_key="another", json=True).json
    assert (document["ok"], document["verdict"]) == (False, "unauthorized")
    assert document["analytics"] == {"error": "401: Unauthorized"}
    hogsend.diagnosis = CannedResponse(status, {"error": "Forbidden: insufficient scope"})
    outcome = cli.doctor()
    assert outcome.code == 1
    assert f"{status}: Forbidden" in outcome.out


@pytest.mark.parametrize(
    "response",
    [
        CannedResponse(500, {}),
        CannedResponse(503, {"error": "the provisioner service is not running"}),
        CannedResponse(200, b"<html>"),
        CannedResponse(200, {"x": 1}),
    ],
)
def test_a_failed_diagnosis_is_unknown_and_degrades(
    cli: Cli, hogsend: FakeHogsend, response: CannedResponse
) -> None:
    hogsend.diagnosis = response
    outcome = cli.doctor()
    assert outcome.code == 1
    assert "unknown  PostHog" in outcome.out
    assert "refused" not in outcome.out
    document = cli.doctor(json=True).json
    assert document["analytics"] == {"connectInfo": hogsend.info}
    assert document["verdict"] == "degraded"


@pytest.mark.parametrize("state", ["needs_reconnect", "unreadable"])
def test_an_unusable_credential_degrades(cli: Cli, hogsend: FakeHogsend, state: str) -> None:
    set_diagnosis(
        hogsend,
        "credential",
        to={
            **HEALTHY_DIAGNOSIS["credential"],
            "state": state,
            "detail": "PostHog refused the refresh token.",
            "remediation": "Run hogsend connect posthog again.",
        },
    )
    outcome = cli.doctor()
    assert outcome.code == 1
    assert "problem" in outcome.out
    assert "PostHog refused the refresh token." in outcome.out
    assert "Run hogsend connect posthog again." in outcome.out
    assert cli.doctor(json=True).json["verdict"] == "degraded"


@pytest.mark.parametrize("state", ["needs_reconnect", "unreadable"])
def test_an_unusable_credential_in_the_health_document_degrades(
    cli: Cli, hogsend: FakeHogsend, state: str
) -> None:
    hogsend.health = CannedResponse(
        200, {**GATEWAY_HEALTH, "credentials": {"posthog": {"state": state}}}
    )
    outcome = cli.doctor(admin_key=None)
    assert outcome.code == 1
    assert "hogsend connect posthog" in outcome.out
    assert cli.doctor(admin_key=None, json=True).json["verdict"] == "degraded"
    hogsend.health = CannedResponse(
        200,
        {
            **GATEWAY_HEALTH,
            "status": "migration_pending",
            "credentials": {"posthog": {"state": state}},
        },
    )
    assert cli.doctor(json=True).json["verdict"] == "migration_pending"


@pytest.mark.parametrize(
    ("part", "value", "text"),
    [
        ("personReads", {"state": "off", "through": "none"}, "off"),
        ("webhookSecret", {"state": "absent", "source": "none"}, "absent"),
        ("destination", {"state": "missing"}, "missing"),
        ("destination", {"state": "elsewhere", "webhookUrl": "https://o.example/"}, "elsewhere"),
        ("publicUrl", {"url": "http://localhost:3002", "loopback": True}, "a loopback address"),
        ("credential", {"state": "absent"}, "absent"),
        ("credential", {"state": "present", "refreshFailing": True}, "refresh is failing"),
        ("personReads", {"state": "off", "through": "oauth"}, "through the OAuth credential"),
    ],
)
def test_a_state_that_is_no_failure_is_a_note_with_the_servers_detail_and_remediation(
    cli: Cli, hogsend: FakeHogsend, part: str, value: dict[str, Any], text: str
) -> None:
    words = {"detail": "The server's own detail.", "remediation": "The server's own remediation."}
    set_diagnosis(hogsend, part, to={**value, **words})
    outcome = cli.doctor()
    assert outcome.code == 0
    assert text in outcome.out
    (note,) = [
        number
        for number, line in enumerate(outcome.out.splitlines())
        if line.startswith("note ") and text in line
    ]
    lines = [line.strip() for line in outcome.out.splitlines()[note + 1 : note + 3]]
    assert lines == [words["detail"], words["remediation"]]
    assert cli.doctor(json=True).json["analytics"][part]["remediation"] == words["remediation"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("minted", "present, generated by Hogsend"),
        ("environment", "present, from POSTHOG_WEBHOOK_SECRET"),
        ("a source of a newer server", "present, a source of a newer server"),
    ],
)
def test_the_source_of_the_webhook_secret_is_printed_in_words(
    cli: Cli, hogsend: FakeHogsend, source: str, text: str
) -> None:
    set_diagnosis(hogsend, "webhookSecret", to={"state": "present", "source": source})
    assert f"webhook secret    {text}\n" in cli.doctor().out
    assert cli.doctor(json=True).json["analytics"]["webhookSecret"]["source"] == source


def test_a_destination_of_another_instance_is_a_note_with_a_fix(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    dashboard = "https://eu.posthog.com/project/1/pipeline/destinations/hog-fn-2"
    other = {
        "hogFunctionId": "fn-2",
        "webhookUrl": "https://old.example/x",
        "dashboardUrl": dashboard,
    }
    set_diagnosis(
        hogsend, "destination", to={**HEALTHY_DIAGNOSIS["destination"], "others": [other]}
    )
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "https://old.example/x" in outcome.out
    assert dashboard in outcome.out
    assert "disable it in PostHog, or adopt it" in outcome.out
    assert cli.doctor(json=True).json["analytics"]["destination"]["others"] == [other]


def test_a_duplicate_destination_is_a_note_with_a_fix(cli: Cli, hogsend: FakeHogsend) -> None:
    dashboard = "https://eu.posthog.com/project/1/pipeline/destinations/hog-fn-2"
    duplicate = {
        "hogFunctionId": "fn-2",
        "webhookUrl": "https://t.example/x",
        "dashboardUrl": dashboard,
    }
    destination = {**HEALTHY_DIAGNOSIS["destination"], "duplicates": [duplicate]}
    set_diagnosis(hogsend, "destination", to=destination)
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "enabled too: https://t.example/x" in outcome.out
    assert dashboard in outcome.out
    assert "all but one" in outcome.out
    assert cli.doctor(json=True).json["analytics"]["destination"]["duplicates"] == [duplicate]


@pytest.mark.parametrize(
    ("state", "mark", "code"),
    [
        # Signed with a detail: the clocks differ, but by less than the tolerance of a signature.
        ("signed", "note", 0),
        ("unsigned", "note", 0),
        ("unknown", "note", 0),
        ("refused", "problem", 1),
    ],
)
def test_the_state_of_signatures_is_a_note_or_a_problem(
    cli: Cli, hogsend: FakeHogsend, state: str, mark: str, code: int
) -> None:
    words = {"detail": "It cannot sign.", "remediation": "Upgrade PostHog."}
    to = {"state": state, "required": state == "refused", **words}
    set_diagnosis(hogsend, "signatures", to=to)
    outcome = cli.doctor()
    assert outcome.code == code
    (line,) = [line for line in outcome.out.splitlines() if "signatures" in line]
    assert line.split()[:3] == [mark, "signatures", state + ("," if state == "refused" else "")]
    assert "Upgrade PostHog." in outcome.out


def test_signed_deliveries_are_ok(cli: Cli, hogsend: FakeHogsend) -> None:
    set_diagnosis(hogsend, "signatures", to={"state": "signed", "required": False})
    (line,) = [line for line in cli.doctor().out.splitlines() if "signatures" in line]
    assert line.split() == ["ok", "signatures", "signed"]


@pytest.mark.parametrize(
    ("mark", "part", "value"),
    [
        ("problem", "personReads", {"state": "failing", "through": "oauth"}),
        ("unknown", "personReads", {"state": "unknown"}),
        ("problem", "webhookSecret", {"state": "unreadable", "source": "minted"}),
        ("unknown", "webhookSecret", {"state": "unknown"}),
        ("problem", "destination", {"state": "disabled"}),
        ("problem", "destination", {"state": "degraded"}),
        ("problem", "destination", {"state": "disabled_by_posthog"}),
        ("problem", "destination", {"state": "missing", "stopped": True}),
        ("problem", "destination", {"state": "elsewhere", "stopped": True}),
        ("problem", "destination", {"state": "drifted", "stopped": True}),
        ("unknown", "destination", {"state": "unknown"}),
        ("unknown", "credential", {"state": "unknown"}),
        ("problem", "credential", {"state": "of the future"}),
    ],
)
def test_a_failing_or_unknown_part_degrades_and_has_a_fix(
    cli: Cli, hogsend: FakeHogsend, mark: str, part: str, value: dict[str, Any]
) -> None:
    for words in ({}, {"remediation": "The server's own remediation."}):
        set_diagnosis(hogsend, part, to={**value, **words})
        outcome = cli.doctor()
        assert outcome.code == 1
        assert cli.doctor(json=True).json["verdict"] == "degraded"
        assert_every_problem_has_a_fix(outcome.out)
        (shown,) = [line for line in outcome.out.splitlines() if line.startswith(f"{mark:<9}")]
        assert value["state"].replace("_", " ") in shown
        assert all(text in outcome.out for text in words.values())


def assert_every_problem_has_a_fix(out: str) -> None:
    lines = out.splitlines()
    problems = [
        number for number, line in enumerate(lines) if line.startswith(("problem", "unknown"))
    ]
    assert problems
    assert [lines[number] for number in problems if not lines[number + 1].startswith(" " * 9)] == []


@pytest.mark.parametrize(
    ("state", "code", "mark"),
    [("live", 0, "ok"), ("drifted", 0, "note"), ("unknown", 1, "unknown")],
)
def test_a_destination_that_may_have_stopped_is_judged_by_its_state(
    cli: Cli, hogsend: FakeHogsend, state: str, code: int, mark: str
) -> None:
    """As reported while the stored destination or the secrets cannot be read."""
    destination = {**HEALTHY_DIAGNOSIS["destination"], "state": state, "stopped": None}
    set_diagnosis(hogsend, "destination", to=destination)
    outcome = cli.doctor()
    assert outcome.code == code
    assert f"{mark:<9}destination       {state}" in outcome.out
    assert "cannot be read" not in outcome.out


def test_an_unknown_destination_of_an_unconnected_server_is_a_note(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    off = replaced(HEALTHY_DIAGNOSIS, "personReads", to={"state": "off", "through": "none"})
    hogsend.diagnosis = CannedResponse(200, replaced(off, "destination", to={"state": "unknown"}))
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "note     destination       unknown" in outcome.out


@pytest.mark.parametrize("name", ["credentials", "ingest", "gateway", "bus", "database"])
@pytest.mark.parametrize("state", ["down", "unknown"])
@pytest.mark.parametrize("command", ["doctor", "status"])
def test_every_part_that_is_not_up_has_a_fix(
    cli: Cli, hogsend: FakeHogsend, name: str, state: str, command: str
) -> None:
    part = (
        {"status": state, "waitsFor": "webhook secret"} if name == "gateway" else {"status": state}
    )
    group = "components" if name in GATEWAY_HEALTH["components"] else "services"
    document = replaced(GATEWAY_HEALTH, group, name, to=part)
    hogsend.health = CannedResponse(200, {**document, "status": "degraded"})
    outcome = getattr(cli, command)()
    assert outcome.code == 1
    assert f"{'unknown' if state == 'unknown' else 'problem':<9}{name}" in outcome.out
    assert_every_problem_has_a_fix(outcome.out)


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_a_gateway_worker_that_does_not_run_is_a_problem_with_a_fix(
    cli: Cli, hogsend: FakeHogsend, command: str
) -> None:
    gateway = {"status": "up", "workers": 4, "workersUp": 4}
    document = replaced(GATEWAY_HEALTH, "services", "gateway", to=gateway)
    hogsend.health = CannedResponse(200, document)
    assert "4 of 4 workers" in getattr(cli, command)().out
    document = replaced(GATEWAY_HEALTH, "services", "gateway", to={**gateway, "workersUp": 3})
    hogsend.health = CannedResponse(200, {**document, "status": "degraded"})
    outcome = getattr(cli, command)()
    assert outcome.code == 1
    assert "problem  gateway" in outcome.out
    assert "3 of 4 workers" in outcome.out
    assert_every_problem_has_a_fix(outcome.out)


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_a_bus_whose_limit_is_below_webhook_max_bytes_is_a_problem_with_a_fix(
    cli: Cli, hogsend: FakeHogsend, command: str
) -> None:
    bus = {"status": "up", "webhookLimitBytes": 1044480}
    document = replaced(GATEWAY_HEALTH, "components", "bus", to=bus)
    hogsend.health = CannedResponse(200, {**document, "status": "degraded"})
    outcome = getattr(cli, command)()
    assert outcome.code == 1
    assert "problem  bus" in outcome.out
    text = " ".join(outcome.out.split())
    assert "more than 1044480 bytes get a 413 and are lost" in text
    assert "raise max_payload" in text
    assert "WEBHOOK_MAX_BYTES" in text
    assert_every_problem_has_a_fix(outcome.out)


@pytest.mark.parametrize("status", ["degraded", "healthy"])
def test_a_schema_that_could_not_be_checked_is_unknown(
    cli: Cli, hogsend: FakeHogsend, status: str
) -> None:
    track: dict[str, Any] = {"applied": None, "required": None, "inSync": False, "pending": []}
    document = replaced(GATEWAY_HEALTH, "schema", "engine", to=track)
    hogsend.health = CannedResponse(200, {**document, "status": status})
    outcome = cli.doctor()
    assert outcome.code == 1
    assert "unknown  schema" in outcome.out
    assert_every_problem_has_a_fix(outcome.out)


@pytest.mark.parametrize("state", ["needs_reconnect", "unreadable", "unknown"])
def test_status_fails_with_an_unusable_credential(
    cli: Cli, hogsend: FakeHogsend, state: str
) -> None:
    credentials = {"posthog": {"state": state}}
    hogsend.health = CannedResponse(200, {**GATEWAY_HEALTH, "credentials": credentials})
    outcome = cli.status()
    assert outcome.code == 1
    assert_every_problem_has_a_fix(outcome.out)
    assert cli.status(json=True).json["credentials"] == credentials


@pytest.mark.parametrize(
    ("state", "fix"),
    [("down", "start the credentials service"), ("unknown", "start NATS")],
)
def test_the_fix_for_an_unknown_credential_names_the_service_that_is_down(
    cli: Cli, hogsend: FakeHogsend, state: str, fix: str
) -> None:
    services = {**GATEWAY_HEALTH["services"], "credentials": {"status": state}}
    credentials = {"posthog": {"state": "unknown"}}
    document = {**GATEWAY_HEALTH, "services": services, "credentials": credentials}
    hogsend.health = CannedResponse(200, {**document, "status": "degraded"})
    explanation = cli.status().out.partition("posthog credential")[2]
    assert fix in " ".join(explanation.split())


@pytest.mark.parametrize(
    ("expires_at", "text"),
    [
        ("2020-01-01T00:00:00.000Z", "token expired at 2020-01-01"),
        ("2999-01-01T00:00:00.000Z", "token valid until 2999-01-01"),
        ("soon", "token valid until soon"),
    ],
)
def test_an_expired_token_is_reported_as_expired(
    cli: Cli, hogsend: FakeHogsend, expires_at: str, text: str
) -> None:
    set_diagnosis(hogsend, "credential", "expiresAt", to=expires_at)
    assert text in cli.doctor().out


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("absent", "none, without an OAuth credential"),
        ("unknown", "unknown, because the credential's state is unknown"),
        ("unreadable", "unknown, because the credential cannot be read"),
        ("needs_reconnect", "none, until PostHog is connected again"),
    ],
)
def test_scopes_without_a_usable_credential_are_reported_with_the_reason(
    cli: Cli, hogsend: FakeHogsend, state: str, text: str
) -> None:
    set_diagnosis(hogsend, "credential", to={"state": state})
    assert f"scopes            {text}\n" in cli.doctor().out


@pytest.mark.parametrize(
    ("waits_for", "database", "remedy"),
    [
        ("PostgreSQL is not available", "down", "start PostgreSQL, or correct DATABASE_URL"),
        ("NATS is not connected", "up", "continues by itself once that is fixed"),
        ("NATS is not connected", "up", "or `docker compose logs credentials`"),
        ("spool", None, "set SPOOL_MAX_BYTES"),
        # Of a new deployment too, which never had a secret.
        ("new webhook secret", None, "because there is no webhook secret: run `hogsend connect"),
    ],
)
def test_the_dependency_a_service_waits_for_is_reported_with_a_fix(
    cli: Cli, hogsend: FakeHogsend, waits_for: str, database: str | None, remedy: str
) -> None:
    part = {"status": "down", "waitsFor": waits_for, "database": database}
    services = {**GATEWAY_HEALTH["services"], "credentials": part}
    hogsend.health = CannedResponse(
        200, {**GATEWAY_HEALTH, "status": "degraded", "services": services}
    )
    out = cli.doctor().out
    assert f"waiting: {waits_for}" in out
    assert remedy in out
    assert f"waiting: {waits_for}" in cli.status().out


def test_a_scope_gap_is_a_note(cli: Cli, hogsend: FakeHogsend) -> None:
    set_diagnosis(hogsend, "scopeGap", to=["query:read", "cohort:write"])
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "not granted: query:read, cohort:write" in outcome.out


def test_every_service_has_a_line(cli: Cli, hogsend: FakeHogsend) -> None:
    services = {**GATEWAY_HEALTH["services"], "ingest": {"status": "down"}}
    services["credentials"] = {"status": "up", "database": "down"}
    hogsend.health = CannedResponse(
        200, {**GATEWAY_HEALTH, "status": "degraded", "services": services}
    )
    lines = cli.doctor().out.splitlines()
    marks = {line.split()[1]: line.split()[0] for line in lines if line[:1].strip()}
    assert marks["bus"] == marks["database"] == marks["schema"] == "ok"
    assert marks["ingest"] == marks["credentials"] == "problem"


def test_an_upstream_worker_that_is_down_is_a_note(cli: Cli, hogsend: FakeHogsend) -> None:
    document = replaced(UPSTREAM_HEALTH, "components", "worker", to={"status": "down"})
    hogsend.health = CannedResponse(200, document)
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "note     worker" in outcome.out


def test_pending_migrations_are_named(cli: Cli, hogsend: FakeHogsend) -> None:
    track = {"applied": None, "required": "0042", "inSync": False, "pending": ["0041", "0042"]}
    schema = {**GATEWAY_HEALTH["schema"], "client": track}
    hogsend.health = CannedResponse(
        200, {**GATEWAY_HEALTH, "status": "migration_pending", "schema": schema}
    )
    outcome = cli.doctor()
    assert outcome.code == 1
    assert "migrations pending: 0041, 0042" in outcome.out


def test_control_characters_and_markup_from_the_server_are_not_interpreted(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    detail = "before\x1b[2J\x1b]0;x\x07\rafter [bold]not markup[/bold]"
    set_diagnosis(hogsend, "personReads", to={"state": "off", "detail": detail})
    out = cli.doctor().out
    assert not {"\x1b", "\x07", "\r"} & set(out)
    assert "[bold]not markup[/bold]" in out


def test_the_admin_key_is_not_printed(cli: Cli) -> None:
    runs: list[Callable[[], Any]] = [
        cli.doctor,
        lambda: cli.doctor(json=True),
        lambda: cli.doctor(url="http://127.0.0.1:1"),
    ]
    assert [run for run in runs if ADMIN_KEY in run().everything] == []


def test_an_invalid_url_with_json_is_wrong_usage(cli: Cli) -> None:
    outcome = cli.doctor(url="nowhere", json=True)
    assert outcome.code == 2
    assert set(json.loads(outcome.out)) == {"error", "fix"}


def test_status_watch_continues_while_the_server_is_unavailable_until_ctrl_c(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    healthy = hogsend.health
    responses = iter([CannedResponse(200, {"status": 1}), healthy])

    def pause(_seconds: float) -> None:
        try:
            hogsend.health = next(responses)
        except StopIteration:
            raise KeyboardInterrupt from None

    with patch("cli.commands.status.pause", pause):
        lines = cli.status(watch=True, json=True)
        hogsend.health = healthy
        responses = iter([CannedResponse(503, {"error": "unavailable"})])
        table = cli.status(watch=True)
    documents = [json.loads(line) for line in lines.out.splitlines()]
    assert [("error" in document, document.get("status")) for document in documents] == [
        (False, "healthy"),
        (True, None),
        (False, "healthy"),
    ]
    assert (lines.code, table.code) == (0, 1)
    assert "is healthy" in table.out
    assert "fix:" in table.err


@pytest.mark.parametrize("step", ["_probe", "_print", "pause"])
def test_status_watch_exits_with_0_on_ctrl_c_at_any_step(
    cli: Cli, hogsend: FakeHogsend, step: str
) -> None:
    with patch("cli.commands.status.pause"):
        calls = iter([getattr(status, step), KeyboardInterrupt])

        def interrupted(*arguments: Any, **options: Any) -> Any:
            if (call := next(calls)) is KeyboardInterrupt:
                raise KeyboardInterrupt
            return call(*arguments, **options)

        with patch(f"cli.commands.status.{step}", interrupted):
            watched = cli.status(watch=True)
    assert watched.code == 0
    assert "interrupted" not in watched.err


@pytest.mark.parametrize(
    ("total", "text"), [(1, "1 message could not"), (3, "3 messages could not")]
)
def test_dead_letters_are_a_note_with_the_command_that_lists_them(
    cli: Cli, hogsend: FakeHogsend, total: int, text: str
) -> None:
    hogsend.dead_letters = CannedResponse(200, {"deadLetters": [], "total": total})
    outcome = cli.doctor()
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if "dead letters" in line]
    assert line.startswith("note")
    assert text in line
    assert "hogsend dlq list" in outcome.out
    assert cli.doctor(json=True).json["deadLetters"] == total


def test_dead_letters_that_cannot_be_counted_are_reported_as_not_counted(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.dead_letters = CannedResponse(503, {"error": "Service Unavailable"})
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "not counted" in outcome.out
    assert "deadLetters" not in cli.doctor(json=True).json

"""`hogsend doctor` (contract 8.6, cases 169 and 170), and its checks of this project's gateway."""

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

PERSON_READS = "judging by the settings here"


def changed(document: dict[str, Any], *path: str, to: Any) -> dict[str, Any]:
    """A copy of `document` with one value replaced."""
    copied = copy.deepcopy(document)
    inside = copied
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = to
    return copied


def diagnosed(hogsend: FakeHogsend, *path: str, to: Any) -> None:
    hogsend.diagnosis = CannedResponse(200, changed(HEALTHY_DIAGNOSIS, *path, to=to))


@pytest.mark.parametrize("health", [UPSTREAM_HEALTH, GATEWAY_HEALTH])
def test_case_169_healthy(cli: Cli, hogsend: FakeHogsend, health: dict[str, Any]) -> None:
    hogsend.health = CannedResponse(200, health)
    outcome = cli.doctor(admin_key=None)
    assert outcome.code == 0
    assert f"{hogsend.url} is ok" in outcome.out
    assert hogsend.lines == [HEALTH]
    assert "authorization" not in hogsend.requests[0].headers
    assert "HOGSEND_ADMIN_KEY" in outcome.out


def test_case_169_health_is_asked_without_the_key_even_when_there_is_one(
    cli: Cli, hogsend: FakeHogsend
) -> None:
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
def test_case_169_not_healthy(cli: Cli, hogsend: FakeHogsend, status: str, verdict: str) -> None:
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
def test_case_169_no_health_document(
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


def test_case_169_no_server(cli: Cli) -> None:
    outcome = cli.doctor(url="http://127.0.0.1:1", json=True)
    assert (outcome.code, outcome.json["verdict"]) == (1, "unreachable")
    assert outcome.json["baseUrl"] == "http://127.0.0.1:1"


def test_case_170_person_reads_judging_by_this_directory(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PERSON_READS not in cli.doctor(admin_key=None).out
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_test")
    outcome = cli.doctor(admin_key=None)
    assert outcome.code == 0
    assert PERSON_READS in outcome.out
    assert "POSTHOG_PERSONAL_API_KEY" in outcome.out
    plain = cli.doctor(admin_key=None, json=True)
    assert plain.code == 0
    assert "person" not in plain.everything
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_test")
    assert PERSON_READS not in cli.doctor(admin_key=None).out


def test_case_170_from_the_env_file(cli: Cli) -> None:
    Path(".env").write_text("POSTHOG_API_KEY=phc_test\n")
    assert PERSON_READS in cli.doctor(admin_key=None).out
    Path(".env").write_text("POSTHOG_API_KEY=phc_test\nPOSTHOG_PERSONAL_API_KEY=phx_test\n")
    assert PERSON_READS not in cli.doctor(admin_key=None).out


def test_case_170_the_server_knows_better(
    cli: Cli, hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_test")
    assert PERSON_READS not in cli.doctor().out
    assert PERSON_READS in cli.doctor(admin_key="another").out
    hogsend.diagnosis = CannedResponse(404, {"error": "Not Found"})
    assert PERSON_READS in cli.doctor().out
    hogsend.info["personalKeyConfigured"] = True
    assert PERSON_READS not in cli.doctor().out


def test_json_of_a_diagnosed_server(cli: Cli, hogsend: FakeHogsend) -> None:
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


def test_json_of_an_upstream_server(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.health = CannedResponse(200, UPSTREAM_HEALTH)
    hogsend.diagnosis = CannedResponse(404, {"error": "Not Found"})
    outcome = cli.doctor(json=True)
    assert outcome.code == 0
    assert outcome.json["analytics"] == {"connectInfo": hogsend.info}
    assert "services" not in outcome.json
    said = cli.doctor()
    assert said.code == 0
    for text in ("redis", "worker", "has no diagnosis", "personal key", "https://t.example.com"):
        assert text in said.out


def test_a_server_without_a_region_and_a_public_url(cli: Cli, hogsend: FakeHogsend) -> None:
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
def test_what_nobody_diagnosed_is_unknown(
    cli: Cli, hogsend: FakeHogsend, response: CannedResponse
) -> None:
    hogsend.diagnosis = response
    outcome = cli.doctor()
    assert outcome.code == 1
    assert "unknown  PostHog" in outcome.out
    document = cli.doctor(json=True).json
    assert document["analytics"] == {"connectInfo": hogsend.info}
    assert document["verdict"] == "degraded"


@pytest.mark.parametrize("state", ["needs_reconnect", "unreadable"])
def test_an_unusable_credential_degrades(cli: Cli, hogsend: FakeHogsend, state: str) -> None:
    diagnosed(
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
def test_the_health_document_alone_reports_it_too(
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
    ("part", "value", "said"),
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
def test_what_is_missing_is_a_note_in_the_servers_words(
    cli: Cli, hogsend: FakeHogsend, part: str, value: dict[str, Any], said: str
) -> None:
    words = {"detail": "The server's own detail.", "remediation": "The server's own way out."}
    diagnosed(hogsend, part, to={**value, **words})
    outcome = cli.doctor()
    assert outcome.code == 0
    assert said in outcome.out
    (start,) = [
        number
        for number, line in enumerate(outcome.out.splitlines())
        if line.startswith("note ") and said in line
    ]
    lines = [line.strip() for line in outcome.out.splitlines()[start + 1 : start + 3]]
    assert lines == [words["detail"], words["remediation"]]
    assert cli.doctor(json=True).json["analytics"][part]["remediation"] == words["remediation"]


def test_a_former_instances_destination_is_a_note_with_what_to_do(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    page = "https://eu.posthog.com/project/1/pipeline/destinations/hog-fn-2"
    other = {"hogFunctionId": "fn-2", "webhookUrl": "https://old.example/x", "dashboardUrl": page}
    diagnosed(hogsend, "destination", to={**HEALTHY_DIAGNOSIS["destination"], "others": [other]})
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "https://old.example/x" in outcome.out
    assert page in outcome.out
    assert "disable it in PostHog, or adopt it" in outcome.out
    assert cli.doctor(json=True).json["analytics"]["destination"]["others"] == [other]


def test_a_copy_of_our_destination_is_a_note_with_what_to_do(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    page = "https://eu.posthog.com/project/1/pipeline/destinations/hog-fn-2"
    copy = {"hogFunctionId": "fn-2", "webhookUrl": "https://t.example/x", "dashboardUrl": page}
    destination = {**HEALTHY_DIAGNOSIS["destination"], "duplicates": [copy]}
    diagnosed(hogsend, "destination", to=destination)
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "enabled too: https://t.example/x" in outcome.out
    assert page in outcome.out
    assert "all but one" in outcome.out
    assert cli.doctor(json=True).json["analytics"]["destination"]["duplicates"] == [copy]


@pytest.mark.parametrize(
    ("state", "mark", "code"),
    [
        # With words: the clock differs so much that it is told.
        ("signed", "note", 0),
        ("unsigned", "note", 0),
        ("unknown", "note", 0),
        ("refused", "problem", 1),
    ],
)
def test_whether_deliveries_are_signed_is_checked(
    cli: Cli, hogsend: FakeHogsend, state: str, mark: str, code: int
) -> None:
    words = {"detail": "It cannot sign.", "remediation": "Upgrade PostHog."}
    to = {"state": state, "required": state == "refused", **words}
    diagnosed(hogsend, "signatures", to=to)
    outcome = cli.doctor()
    assert outcome.code == code
    (line,) = [line for line in outcome.out.splitlines() if "signatures" in line]
    assert line.split()[:3] == [mark, "signatures", state + ("," if state == "refused" else "")]
    assert "Upgrade PostHog." in outcome.out


def test_deliveries_that_are_signed_are_well(cli: Cli, hogsend: FakeHogsend) -> None:
    diagnosed(hogsend, "signatures", to={"state": "signed", "required": False})
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
def test_what_does_not_work_or_nobody_knows_is_not_ok(
    cli: Cli, hogsend: FakeHogsend, mark: str, part: str, value: dict[str, Any]
) -> None:
    for words in ({}, {"remediation": "The server's own way out."}):
        diagnosed(hogsend, part, to={**value, **words})
        outcome = cli.doctor()
        assert outcome.code == 1
        assert cli.doctor(json=True).json["verdict"] == "degraded"
        every_line_says_what_to_do(outcome.out)
        (shown,) = [line for line in outcome.out.splitlines() if line.startswith(f"{mark:<9}")]
        assert value["state"].replace("_", " ") in shown
        assert all(text in outcome.out for text in words.values())


def every_line_says_what_to_do(out: str) -> None:
    lines = out.splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith(("problem", "unknown"))]
    assert found
    assert [lines[number] for number in found if not lines[number + 1].startswith(" " * 9)] == []


def test_without_a_credential_the_destination_nobody_asked_for_is_a_note(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    off = changed(HEALTHY_DIAGNOSIS, "personReads", to={"state": "off", "through": "none"})
    hogsend.diagnosis = CannedResponse(200, changed(off, "destination", to={"state": "unknown"}))
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "note     destination       unknown" in outcome.out


@pytest.mark.parametrize("name", ["credentials", "ingest", "gateway", "bus", "database"])
@pytest.mark.parametrize("state", ["down", "unknown"])
@pytest.mark.parametrize("command", ["doctor", "status"])
def test_every_part_that_is_not_up_says_what_to_do(
    cli: Cli, hogsend: FakeHogsend, name: str, state: str, command: str
) -> None:
    away = (
        {"status": state, "waitsFor": "webhook secret"} if name == "gateway" else {"status": state}
    )
    place = "components" if name in GATEWAY_HEALTH["components"] else "services"
    document = changed(GATEWAY_HEALTH, place, name, to=away)
    hogsend.health = CannedResponse(200, {**document, "status": "degraded"})
    outcome = getattr(cli, command)()
    assert outcome.code == 1
    assert f"{'unknown' if state == 'unknown' else 'problem':<9}{name}" in outcome.out
    every_line_says_what_to_do(outcome.out)


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_workers_that_do_not_run_are_a_problem_with_a_fix(
    cli: Cli, hogsend: FakeHogsend, command: str
) -> None:
    gateway = {"status": "up", "workers": 4, "workersUp": 4}
    document = changed(GATEWAY_HEALTH, "services", "gateway", to=gateway)
    hogsend.health = CannedResponse(200, document)
    assert "4 of 4 workers" in getattr(cli, command)().out
    document = changed(GATEWAY_HEALTH, "services", "gateway", to={**gateway, "workersUp": 3})
    hogsend.health = CannedResponse(200, {**document, "status": "degraded"})
    outcome = getattr(cli, command)()
    assert outcome.code == 1
    assert "problem  gateway" in outcome.out
    assert "3 of 4 workers" in outcome.out
    every_line_says_what_to_do(outcome.out)


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_a_bus_that_takes_too_small_webhooks_is_a_problem_with_a_fix(
    cli: Cli, hogsend: FakeHogsend, command: str
) -> None:
    small = {"status": "up", "webhookLimitBytes": 1044480}
    document = changed(GATEWAY_HEALTH, "components", "bus", to=small)
    hogsend.health = CannedResponse(200, {**document, "status": "degraded"})
    outcome = getattr(cli, command)()
    assert outcome.code == 1
    assert "problem  bus" in outcome.out
    said = " ".join(outcome.out.split())
    assert "more than 1044480 bytes get a 413 and are lost" in said
    assert "raise max_payload" in said
    assert "WEBHOOK_MAX_BYTES" in said
    every_line_says_what_to_do(outcome.out)


@pytest.mark.parametrize("status", ["degraded", "healthy"])
def test_a_schema_nobody_could_look_at_is_unknown(
    cli: Cli, hogsend: FakeHogsend, status: str
) -> None:
    track: dict[str, Any] = {"applied": None, "required": None, "inSync": False, "pending": []}
    document = changed(GATEWAY_HEALTH, "schema", "engine", to=track)
    hogsend.health = CannedResponse(200, {**document, "status": status})
    outcome = cli.doctor()
    assert outcome.code == 1
    assert "unknown  schema" in outcome.out
    every_line_says_what_to_do(outcome.out)


@pytest.mark.parametrize("state", ["needs_reconnect", "unreadable", "unknown"])
def test_status_is_not_healthy_with_a_credential_that_is_not_usable(
    cli: Cli, hogsend: FakeHogsend, state: str
) -> None:
    credentials = {"posthog": {"state": state}}
    hogsend.health = CannedResponse(200, {**GATEWAY_HEALTH, "credentials": credentials})
    outcome = cli.status()
    assert outcome.code == 1
    every_line_says_what_to_do(outcome.out)
    assert cli.status(json=True).json["credentials"] == credentials


@pytest.mark.parametrize(
    ("service", "said"),
    [("down", "start the credentials service"), ("unknown", "start NATS")],
)
def test_who_would_know_of_a_credential_is_started_only_where_it_does_not_run(
    cli: Cli, hogsend: FakeHogsend, service: str, said: str
) -> None:
    services = {**GATEWAY_HEALTH["services"], "credentials": {"status": service}}
    credentials = {"posthog": {"state": "unknown"}}
    document = {**GATEWAY_HEALTH, "services": services, "credentials": credentials}
    hogsend.health = CannedResponse(200, {**document, "status": "degraded"})
    below = cli.status().out.partition("posthog credential")[2]
    assert said in " ".join(below.split())


@pytest.mark.parametrize(
    ("expires_at", "said"),
    [
        ("2020-01-01T00:00:00.000Z", "token expired at 2020-01-01"),
        ("2999-01-01T00:00:00.000Z", "token valid until 2999-01-01"),
        ("soon", "token valid until soon"),
    ],
)
def test_a_token_that_has_expired_is_not_called_valid(
    cli: Cli, hogsend: FakeHogsend, expires_at: str, said: str
) -> None:
    diagnosed(hogsend, "credential", "expiresAt", to=expires_at)
    assert said in cli.doctor().out


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("absent", "none, without an OAuth credential"),
        ("unknown", "unknown, because the credential's state is unknown"),
        ("unreadable", "unknown, because the credential cannot be read"),
        ("needs_reconnect", "none, until PostHog is connected again"),
    ],
)
def test_there_is_said_to_be_no_grant_only_where_there_is_none(
    cli: Cli, hogsend: FakeHogsend, state: str, said: str
) -> None:
    diagnosed(hogsend, "credential", to={"state": state})
    assert f"scopes            {said}\n" in cli.doctor().out


@pytest.mark.parametrize(
    ("waits_for", "database", "remedy"),
    [
        ("PostgreSQL is not available", "down", "start PostgreSQL, or correct DATABASE_URL"),
        ("NATS is not connected", "up", "continues by itself once that is fixed"),
        ("spool", None, "set SPOOL_MAX_BYTES"),
    ],
)
def test_what_a_service_waits_for_is_said_in_sentences(
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
    diagnosed(hogsend, "scopeGap", to=["query:read", "cohort:write"])
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


def test_a_missing_upstream_worker_is_a_note(cli: Cli, hogsend: FakeHogsend) -> None:
    away = changed(UPSTREAM_HEALTH, "components", "worker", to={"status": "down"})
    hogsend.health = CannedResponse(200, away)
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


def test_text_of_a_server_cannot_move_the_cursor(cli: Cli, hogsend: FakeHogsend) -> None:
    said = "before\x1b[2J\x1b]0;x\x07\rafter [bold]not markup[/bold]"
    diagnosed(hogsend, "personReads", to={"state": "off", "detail": said})
    out = cli.doctor().out
    assert not {"\x1b", "\x07", "\r"} & set(out)
    assert "[bold]not markup[/bold]" in out


def test_the_key_is_never_printed(cli: Cli) -> None:
    outcomes: list[Callable[[], Any]] = [
        cli.doctor,
        lambda: cli.doctor(json=True),
        lambda: cli.doctor(url="http://127.0.0.1:1"),
    ]
    assert [one for one in outcomes if ADMIN_KEY in one().everything] == []


def test_a_wrong_address_with_json(cli: Cli) -> None:
    outcome = cli.doctor(url="nowhere", json=True)
    assert outcome.code == 2
    assert set(json.loads(outcome.out)) == {"error", "fix"}


def test_status_is_watched_until_ctrl_c_and_while_the_server_is_away(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    healthy = hogsend.health
    answers = iter([CannedResponse(200, {"status": 1}), healthy])

    def pause(_seconds: float) -> None:
        try:
            hogsend.health = next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    with patch("cli.commands.status.pause", pause):
        lines = cli.status(watch=True, json=True)
        hogsend.health = healthy
        answers = iter([CannedResponse(503, {"error": "away"})])
        table = cli.status(watch=True)
    documents = [json.loads(line) for line in lines.out.splitlines()]
    assert [("error" in one, one.get("status")) for one in documents] == [
        (False, "healthy"),
        (True, None),
        (False, "healthy"),
    ]
    assert (lines.code, table.code) == (0, 1)
    assert "is healthy" in table.out
    assert "fix:" in table.err


@pytest.mark.parametrize("meanwhile", ["_probe", "_print", "pause"])
def test_a_watch_ends_quietly_whatever_ctrl_c_interrupts(
    cli: Cli, hogsend: FakeHogsend, meanwhile: str
) -> None:
    with patch("cli.commands.status.pause"):
        turns = iter([getattr(status, meanwhile), KeyboardInterrupt])

        def interrupted(*arguments: Any, **options: Any) -> Any:
            if (turn := next(turns)) is KeyboardInterrupt:
                raise KeyboardInterrupt
            return turn(*arguments, **options)

        with patch(f"cli.commands.status.{meanwhile}", interrupted):
            watched = cli.status(watch=True)
    assert watched.code == 0
    assert "interrupted" not in watched.err


@pytest.mark.parametrize(
    ("total", "says"), [(1, "1 message could not"), (3, "3 messages could not")]
)
def test_dead_letters_that_wait_are_a_note_with_the_command_that_shows_them(
    cli: Cli, hogsend: FakeHogsend, total: int, says: str
) -> None:
    hogsend.dead_letters = CannedResponse(200, {"deadLetters": [], "total": total})
    outcome = cli.doctor()
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if "dead letters" in line]
    assert line.startswith("note")
    assert says in line
    assert "hogsend dlq list" in outcome.out
    assert cli.doctor(json=True).json["deadLetters"] == total


def test_dead_letters_that_cannot_be_counted_are_said_to_be_unknown(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.dead_letters = CannedResponse(503, {"error": "Service Unavailable"})
    outcome = cli.doctor()
    assert outcome.code == 0
    assert "not counted" in outcome.out
    assert "deadLetters" not in cli.doctor(json=True).json

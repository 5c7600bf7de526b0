"""Types of settings: which values are refused, without quoting them, and which are accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cli.environment import hogsend_home
from cli.stack.settings import StackSettings, problems
from hogsend.service.settings.shared import TelemetrySettings
from hogsend.service.settings.types import (
    FilePath,
    HeaderSecret,
    OptionalPort,
    PersonalKey,
    Port,
    PostHogUrl,
    ProjectId,
    ProjectKey,
    PublicUrl,
    check_written,
)

ON_CLOUD = ("eu.posthog.com/project/1", "us.i.posthog.com/i/v0", "EU.I.posthog.com/static/array.js")
ON_ANOTHER_HOST = ("ph.example/project/1/settings", "ph.example/batch/", "ph.example/ingest/i/v0/e")
TWO_KEYS = ("phc_a,phc_hunter2", "phc_a # hunter2")
NOT_PERSONAL = ("phs_hunter2", "phr_hunter2", "phx_a hunter2")
ODD_PORTS = ("3002.0", "3_002", "+3002", ":3002", "\u0663", "3002/tcp")


@pytest.mark.parametrize(
    ("type", "value", "message"),
    [
        *((HeaderSecret, value, "the word Bearer") for value in ("Bearer hunter2", "bearer hu")),
        (ProjectKey, "phx_hunter2", "begins with phc_"),
        (ProjectKey, "phs_hunter2", "begins with phc_"),
        *((ProjectKey, f"{prefix}_hunter2", "begins with phc_") for prefix in ("pha", "phr")),
        *((ProjectKey, value, "more than one") for value in TWO_KEYS),
        *((PersonalKey, value, "phx_") for value in NOT_PERSONAL),
        *((PostHogUrl, f"https://{host}", "after the host") for host in ON_CLOUD),
        *((PostHogUrl, f"https://{host}", "pages") for host in ON_ANOTHER_HOST),
        (PostHogUrl, "http://eu.i.posthog.com", "https"),
        # urllib's errors for these quote a part of the address.
        *((kind, "https://me:hunter2", "not an address") for kind in (PostHogUrl, PublicUrl)),
        *((kind, "https://[hunter2]", "not an address") for kind in (PostHogUrl, PublicUrl)),
        *((PublicUrl, f"https://h{path}/v1/webhooks/posthog", "is added") for path in ("", "/p")),
        *((kind, value, "digits only") for kind in (Port, OptionalPort) for value in ODD_PORTS),
        *((FilePath, value, "write the path") for value in ("$HOME/hunter2", "~nobody-here/a")),
        *((ProjectId, value, "/project/") for value in ("0", "007", "9" * 20)),
        (PersonalKey, "phc_hunter2", "begins with phx_"),
        *((ProjectId, value, "/project/") for value in ("hunter2", "-1", "@current", "1,2", "'1'")),
        *((ProjectId, value, "/project/") for value in ("1.0", "https://h/project/1", "\u0661")),
    ],
)
def test_a_wrong_value_is_refused_with_the_fix_and_without_quoting_it(
    type: Any, value: str, message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as raised:
        TypeAdapter(type).validate_python(value)
    assert "hunter2" not in raised.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("type", "value"),
    [
        *((HeaderSecret, value) for value in ("a,b", "bearers", "")),
        *((PostHogUrl, f"https://{host}") for host in ("ph.example/ingest", "eu.posthog.com/")),
        (PostHogUrl, "http://posthog.internal:8000"),
        *((PublicUrl, f"https://h{path}") for path in ("", "/", "/api", "/hogsend/v1/")),
        # Older keys of PostHog have no prefix.
        *((kind, "sTMFPsFhdP1Ssg") for kind in (ProjectKey, PersonalKey)),
        (ProjectKey, "phc_x"),
        (PersonalKey, "phx_x"),
        (ProjectId, "4242"),
    ],
)
def test_a_plausible_value_is_accepted_unchanged(type: Any, value: str) -> None:
    accepted = TypeAdapter(type).validate_python(value)
    text = accepted if isinstance(accepted, str) else accepted.get_secret_value()
    assert text == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTHOG_API_KEY", "<phc_key>"),
        ("POSTHOG_HOST", '"https://eu.i.posthog.com"'),
        ("GATEWAY_PORT", "${PORT}"),
        ("CONSOLE", "'true'"),
        ("SPOOL_DIR", "$(pwd)"),
        ("LOG_LEVEL", '"'),
        ("NATS_PASSWORD", "$NATS_PASSWORD"),
        ("DATABASE_URL", "{{ .database }}"),
    ],
)
def test_a_quoted_value_or_a_placeholder_is_refused_for_any_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    (problem,) = problems()
    assert problem.startswith(f"{name}: it is ")
    assert "quotes" in problem or "was not replaced" in problem


@pytest.mark.parametrize("value", ['it"s', "$ecret", "${a}b", "a<b>", "<a"])
def test_a_value_that_only_resembles_quotes_or_a_placeholder_is_accepted(value: str) -> None:
    check_written(value)


def test_a_tilde_at_the_start_of_a_path_is_expanded_to_the_home_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HOGSEND_HOME", "~/.hogsend")
    assert StackSettings().hogsend_home == hogsend_home() == tmp_path / ".hogsend"


@pytest.mark.parametrize(("value", "level"), [("INFO", "info"), ("Warn", "warning")])
def test_a_log_level_is_accepted_in_any_case(
    value: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", value)
    assert TelemetrySettings().log_level == level


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WEBHOOK_MAX_BYTES", "4MB", "digits only"),
        ("OPERATOR_WEBHOOK_FAILING_SECONDS", "10m", "not a number"),
        ("CONSOLE", "enabled", "true nor false"),
        ("LOG_LEVEL", "trace", "'warning' or 'error'"),
        ("DATABASE_POOL_SIZE", "0", "write 1 or more"),
        ("NATS_REPLICAS", "9", "write 5 or less"),
        ("ADMIN_READ_API_KEY", "the-admin-key", "ADMIN_READ_API_KEY has the value of ADMIN_API"),
        ("INGEST_API_KEY_PREVIOUS", "a, the-admin-key", "INGEST_API_KEY has the value of ADMIN_"),
        ("OUTBOUND_ALLOW", "*.internal", "has a \\*"),
        ("OUTBOUND_ALLOW", "http://u:hunter2@h", "not a host"),
        ("OUTBOUND_ALLOW", "[::1", "not a host"),
        ("OUTBOUND_ALLOW", "h:99999", "not a host"),
        ("DATABASE_URL", "postgresql://h/d?ssl=true", "sslmode=require"),
        ("DATABASE_URL", "postgresql://h/d?schema=app", "search_path"),
    ],
)
def test_a_problem_with_a_setting_states_the_fix(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "the-admin-key")
    monkeypatch.setenv(name, value)
    (problem,) = problems()
    assert re.search(message, problem)
    assert "hunter2" not in problem

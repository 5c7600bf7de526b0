"""Settings: defaults, empty values, bounds, secrets, files and deprecated names."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import structlog
from pydantic import SecretStr, ValidationError

from cli.stack.settings import ALL_SETTINGS, problems
from hogsend.service import logs
from hogsend.service.settings.base import Settings, deprecations
from hogsend.service.settings.problems import describe_problems
from hogsend.service.settings.shared import (
    BusSettings,
    OutboundSettings,
    PostHogSettings,
    TelemetrySettings,
)
from services.credentials.settings import SealingSettings
from services.gateway.settings import GatewaySettings

REQUIRED = {"better_auth_secret": "s", "database_url": "postgresql://x"}


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for group in ALL_SETTINGS:
        for name in group.environment_names():
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("group", ALL_SETTINGS)
def test_every_setting_has_a_description_and_a_default_unless_it_is_required(
    group: type[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, field in group.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        if field.is_required():
            monkeypatch.setenv(name.upper(), REQUIRED[name])
    defaults = group()
    for name, field in group.model_fields.items():
        if not field.is_required():
            assert getattr(defaults, name) == field.default


@pytest.mark.parametrize("group", ALL_SETTINGS)
def test_a_setting_with_an_empty_value_has_its_default(
    group: type[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, field in group.model_fields.items():
        monkeypatch.setenv(name.upper(), REQUIRED[name] if field.is_required() else "")
    for name, field in group.model_fields.items():
        if not field.is_required():
            assert getattr(group(), name) == field.default


def test_a_port_set_by_a_kubernetes_service_link_is_refused_with_the_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "tcp://10.96.12.7:80")
    with pytest.raises(ValidationError, match="enableServiceLinks: false"):
        GatewaySettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_PORT", "70000"),
        ("API_PUBLIC_URL", "nonsense"),
        ("WEBHOOK_MAX_BYTES", "12"),
        ("LOG_LEVEL", "loud"),
        ("DEFAULT_TIMEZONE", "Mars/Olympus"),
        ("SPOOL_MAX_BYTES", "-1"),
        ("INGEST_BATCH_SIZE", "0"),
        ("EVENT_RETENTION_DAYS", "-1"),
        ("AUDIT_RETENTION_DAYS", "36501"),
        ("DELIVERY_RETENTION_DAYS", "a week"),
        ("NATS_REPLICAS", "9"),
        ("ADMIN_RATE_LIMIT", "0"),
        ("ADMIN_RATE_LIMIT", "9" * 5000),
        ("NATS_STREAM_MAX_BYTES", str(10**19)),
        ("OUTBOUND_WEBHOOK_BASE_DELAY_MS", str(10**17)),
        ("OUTBOUND_WEBHOOK_MAX_DELAY_MS", str(10**17)),
        *(
            (name, value)
            for name in ("HTTP_REQUEST_TIMEOUT_SECONDS", "OPERATOR_WEBHOOK_FAILING_SECONDS")
            for value in ("-1", "nan")
        ),
        *((name, "tcp://10.96.12.7:80") for name in ("GATEWAY_PORT", "NATS_PORT", "METRICS_PORT")),
        *(
            (name, value)
            for name in ("POSTHOG_HOST", "POSTHOG_PRIVATE_HOST", "API_PUBLIC_URL")
            for value in (
                *("eu.i.posthog.com", "//eu.i.posthog.com", "ftp://eu.i.posthog.com", "https://"),
                *("https://eu.i.posthog.com?a=1", "https://eu.i.posthog.com/#a", "https://h/?"),
                *("https://u:p@eu.i.posthog.com", "https://eu.i .posthog.com", "https://h:0"),
                *(
                    "https://h:port",
                    "https://h\\x",
                    "https://[::1",
                    "https://h\nx",
                    "https://eu..posthog.com",
                    "https://a,b",
                ),
            )
        ),
        *(
            ("NATS_URL", value)
            for value in (
                *("http://h:4222", "nats://", "nats://h:port", "nats://u:p#x@h:4222", "nats://h,"),
                *("nats://u:p/x@h:4222", "nats://h:4222?x=1", "nats://h:4222 nats://g:4222"),
            )
        ),
        *(
            (name, value)
            for name in (
                *("POSTHOG_WEBHOOK_SECRET", "ADMIN_API_KEY", "ADMIN_READ_API_KEY"),
                *("INGEST_API_KEY", "POSTHOG_PERSONAL_API_KEY", "POSTHOG_API_KEY"),
                *("ADMIN_API_KEY_PREVIOUS", "ADMIN_READ_API_KEY_PREVIOUS"),
                *("INGEST_API_KEY_PREVIOUS", "POSTHOG_WEBHOOK_SECRET_PREVIOUS"),
            )
            for value in ("schlüssel", "a\nb", "a\tb", "a\x7fb", "ключ")
        ),
        ("POSTHOG_WEBHOOK_SECRET", '"s3cret"'),
        ("POSTHOG_API_KEY", "phx_s3cret"),
        ("POSTHOG_PERSONAL_API_KEY", "phc_s3cret"),
        ("POSTHOG_PROJECT_ID", "@current"),
        ("DATABASE_URL", "postgresql://u:p#ss@h/db"),
        *(
            (name, value)
            for name in ("GATEWAY_HOST", "METRICS_HOST")
            for value in ("http://localhost", "127.0.0.1,::1", "a b", "localhost/", "a..b")
        ),
    ],
)
def test_an_invalid_value_is_refused_by_the_settings_name_without_quoting_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    group = next(group for group in ALL_SETTINGS if name.lower() in group.model_fields)
    if "DATABASE_URL" not in name:
        monkeypatch.setenv("DATABASE_URL", REQUIRED["database_url"])
    monkeypatch.setenv("BETTER_AUTH_SECRET", REQUIRED["better_auth_secret"])
    with pytest.raises(ValidationError, match=name.lower()) as raised:
        group()
    (problem,) = describe_problems(raised.value)
    assert problem.startswith(f"{name}: ")
    assert len(value) < len("https://h") or value not in problem
    assert "Value error" not in problem
    assert "put should" not in problem


LOWER_CASE = [
    (group, written, name.upper())
    for group, name, written in [
        (BusSettings, "nats_password", "nats_password"),
        (GatewaySettings, "gateway_port", "Gateway_Port"),
        (SealingSettings, "better_auth_secret", "better_auth_secret"),
        (TelemetrySettings, "alive_file", "alive_file"),
        (GatewaySettings, "admin_api_key_previous", "admin_api_key_previous"),
    ]
]


@pytest.mark.parametrize(("group", "written", "name"), LOWER_CASE)
def test_a_lower_case_variable_is_refused_with_the_name_to_write(
    group: type[Settings], written: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(written, "hidden")
    with pytest.raises(ValidationError) as raised:
        group()
    (problem,) = describe_problems(raised.value)
    assert f"{written}, and only capitals are read; write {name}" in problem
    assert "hidden" not in problem


@pytest.mark.parametrize(("group", "written", "name"), LOWER_CASE)
def test_a_lower_case_variable_is_ignored_when_the_upper_case_one_is_set(
    group: type[Settings], written: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3003")
    expected = group()
    monkeypatch.setenv(written, "3004")
    assert group() == expected


def test_proxies_are_also_read_from_lower_case_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://lower-case:3128")
    monkeypatch.setenv("no_proxy", "a.example,b.example")
    settings = OutboundSettings()
    assert settings.no_proxy == ("a.example", "b.example")
    assert settings.proxies.to(httpx.URL("https://posthog.example")) == "http://lower-case:3128"
    monkeypatch.setenv("HTTPS_PROXY", "http://upper-case:3128")
    proxy = OutboundSettings().proxies.to(httpx.URL("https://posthog.example"))
    assert proxy == "http://upper-case:3128"


@pytest.mark.parametrize(
    ("group", "name", "value", "expected"),
    [
        (PostHogSettings, "POSTHOG_WEBHOOK_SECRET", "s3cret\n", "s3cret"),
        (PostHogSettings, "POSTHOG_HOST", "https://eu.i.posthog.com ", "https://eu.i.posthog.com"),
        (PostHogSettings, "POSTHOG_WEBHOOK_SECRET", " \n", None),
        (GatewaySettings, "GATEWAY_PORT", " 3003\r\n", 3003),
        (GatewaySettings, "ADMIN_API_KEY", "\tkey ", "key"),
        (BusSettings, "NATS_URL", " nats://h:4222\n", "nats://h:4222"),
        # Its exact bytes are the key. A trimmed key could not decrypt the stored credentials.
        (SealingSettings, "BETTER_AUTH_SECRET", "s3cret\n", "s3cret\n"),
    ],
)
def test_white_space_around_a_value_is_trimmed(
    group: type[Settings], name: str, value: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    setting = getattr(group(), name.lower())
    assert (setting.get_secret_value() if isinstance(setting, SecretStr) else setting) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("nats://h:4222", "h:4222", "h", "tls://h", "nats://a:1,nats://b:2", "a:1, b:2"),
        *("nats://u:p%40ss@h:4222", "nats://[::1]:4222", "wss://h:443", "nats://h:4222/"),
    ],
)
def test_every_form_of_address_that_nats_py_accepts_is_accepted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", url)
    assert BusSettings().nats_url == url


def test_a_stack_reports_every_invalid_setting_and_requires_no_generated_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert problems() == []
    monkeypatch.setenv("INGEST_BATCH_SIZE", "0")
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hunter2@h/db")
    monkeypatch.setenv("POSTHOG_HOST", "eu.i.posthog.com")
    lines = problems()
    assert sorted(line.partition(":")[0] for line in lines) == [
        *("DATABASE_URL", "INGEST_BATCH_SIZE", "POSTHOG_HOST"),
    ]
    assert "hunter2" not in "".join(lines)


PROXIES = ("http_proxy", "https_proxy", "all_proxy")
HIDDEN = "donotprintme" * 4
"""Valid base64, which a signing secret must be."""


def test_every_secret_setting_has_a_type_that_hides_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = [
        name
        for group in ALL_SETTINGS
        for name, field in group.model_fields.items()
        if name.endswith(("_key", "_secret", "_previous", "_password", "database_url", *PROXIES))
        and field.annotation is not bool
        and name != "nats_tls_key"  # the path of a file
    ]
    assert len(secrets) == 20
    for number, name in enumerate(secrets):
        # The value of a URL setting must be a URL.
        prefix = "postgresql://u:" if name == "database_url" else ""
        prefix = "http://u:" if name in PROXIES else prefix
        monkeypatch.setenv(name.upper(), f"{prefix}{HIDDEN}{number:04}{'@h' if prefix else ''}")
    for group in ALL_SETTINGS:
        values = group()
        assert HIDDEN not in repr(values)
        for name, field in group.model_fields.items():
            value = getattr(values, name)
            is_secret = isinstance(value, SecretStr) or "SecretStr" in str(field.annotation)
            assert (name in secrets) == is_secret


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("older, oldest,", ["older", "oldest"]),
        ('["one, with a comma", "[other", " ", ""]', ["one, with a comma", "[other"]),
        ('  ["a,b"]', ["a,b"]),
    ],
)
def test_previous_secrets_are_separated_by_commas_or_a_json_array(
    value: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BETTER_AUTH_SECRET", "new")
    for name in ("BETTER_AUTH_SECRET_PREVIOUS", "ADMIN_API_KEY_PREVIOUS"):
        monkeypatch.setenv(name, value)
    secrets = SealingSettings().better_auth_secret_previous
    assert [secret.get_secret_value() for secret in secrets] == expected
    keys = GatewaySettings().admin_api_key_previous
    assert [key.get_secret_value() for key in keys] == expected


@pytest.mark.parametrize("value", ["[hidden", '["hidden"', "[hidden,b]", '["hidden", 1]', "[[]]"])
def test_an_invalid_json_array_is_refused_by_the_settings_name(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_API_KEY_PREVIOUS", value)
    with pytest.raises(ValidationError) as raised:
        GatewaySettings()
    (problem,) = describe_problems(raised.value)
    assert "ADMIN_API_KEY_PREVIOUS" in problem
    assert "JSON" in problem
    assert "hidden" not in problem


@pytest.mark.parametrize(
    ("environment", "private_host", "is_explicit"),
    [
        ({}, None, False),
        ({"POSTHOG_API_KEY": "phc_x"}, "https://us.posthog.com", False),
        ({"POSTHOG_HOST": "https://eu.i.posthog.com"}, "https://eu.posthog.com", True),
        (
            {
                "POSTHOG_HOST": "https://eu.i.posthog.com",
                "POSTHOG_PRIVATE_HOST": "https://ph.internal.example//",
            },
            "https://ph.internal.example",
            True,
        ),
    ],
)
def test_the_private_host_is_set_or_derived_from_the_ingestion_host(
    environment: dict[str, str],
    private_host: str | None,
    is_explicit: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert PostHogSettings().private_host == private_host
    assert PostHogSettings().host_explicit is is_explicit


def test_a_secret_is_read_from_a_file_unless_its_variable_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nats_password").write_text("from-a-file\n")
    settings = BusSettings(_secrets_dir=tmp_path)
    assert settings.nats_password is not None
    assert settings.nats_password.get_secret_value() == "from-a-file"
    monkeypatch.setenv("NATS_PASSWORD", "from-the-environment")
    settings = BusSettings(_secrets_dir=tmp_path)
    assert settings.nats_password is not None
    assert settings.nats_password.get_secret_value() == "from-the-environment"


@pytest.mark.parametrize("name", ["nats_password", "health_file", "alive_file"])
def test_an_undecodable_secret_file_is_reported_without_quoting_it(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"hidden\xff")
    group = BusSettings if name == "nats_password" else TelemetrySettings
    with pytest.raises(ValidationError) as raised:
        group(_secrets_dir=tmp_path)
    (problem,) = describe_problems(raised.value)
    assert f"{tmp_path / name} cannot be read" in problem
    assert "hidden" not in problem


class Renamed(NamedTuple):
    group: type[Settings]
    deprecated: str
    name: str
    old: str
    new: str


RENAMED = [
    Renamed(GatewaySettings, "HTTP_PATIENCE_SECONDS", "HTTP_REQUEST_TIMEOUT_SECONDS", "7.0", "8.0"),
    Renamed(TelemetrySettings, "ALIVE_FILE", "HEALTH_FILE", "/old", "/new"),
]


@pytest.mark.parametrize("renamed", RENAMED)
@pytest.mark.parametrize("as_file", [False, True])
def test_a_deprecated_name_is_read_until_the_new_name_is_set(
    renamed: Renamed, as_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, deprecated, name, old, new = renamed

    def value() -> str:
        return str(getattr(group(_secrets_dir=tmp_path), name.lower()))

    if as_file:
        (tmp_path / deprecated.lower()).write_text(f"{old}\n")
    else:
        monkeypatch.setenv(deprecated, old)
    assert value() == old
    monkeypatch.setenv(name, "")
    assert value() == old
    monkeypatch.setenv(name, new)
    assert value() == new
    monkeypatch.delenv(name)
    (tmp_path / name.lower()).write_text(f"{new}\n")
    assert value() == new


@pytest.mark.parametrize("renamed", RENAMED)
def test_a_deprecated_name_causes_a_warning_unless_both_names_have_one_value(
    renamed: Renamed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, deprecated, name, old, new = renamed
    assert group.renamed == {deprecated.lower(): name.lower()}
    assert deprecations(tmp_path) == []
    (tmp_path / deprecated.lower()).write_text(f"{old}\n")
    (warning,) = deprecations(tmp_path)
    assert warning.startswith(f"{deprecated} is deprecated")
    assert warning.endswith(f"set {name} instead")
    monkeypatch.setenv(name, new)
    assert deprecations(tmp_path) == [warning]
    monkeypatch.setenv(name, old)
    assert deprecations(tmp_path) == []


def test_each_deprecated_name_is_logged_once_as_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for renamed in RENAMED:
        monkeypatch.setenv(renamed.deprecated, renamed.old)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("gateway", TelemetrySettings())
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"].split()[0] for line in lines] == ["ALIVE_FILE", "HTTP_PATIENCE_SECONDS"]
    assert {line["level"] for line in lines} == {"warning"}
    assert {line["service"] for line in lines} == {"gateway"}


@pytest.mark.parametrize(
    ("character", "escaped"),
    [("/", "%2F"), ("?", "%3F"), ("#", "%23"), ("[", "%5B"), ("]", "%5D")],
)
def test_a_password_that_breaks_the_nats_address_is_reported_with_the_escape_to_write(
    character: str, escaped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", f"nats://a:b@nats-1,nats://u:7{character}hidden@nats:4222")
    with pytest.raises(ValidationError) as raised:
        BusSettings()
    (problem,) = describe_problems(raised.value)
    assert "a password in it" in problem
    assert escaped in problem
    assert "hidden" not in problem
    monkeypatch.setenv("NATS_URL", f"nats://a:b@nats-1,nats://u:7{escaped}hidden@nats:4222")
    assert BusSettings().nats_url


@pytest.mark.parametrize("password", ["pa,hidden", "4222,hidden", "1,2,hidden"])
def test_an_unescaped_comma_in_the_nats_password_is_refused_with_its_escape(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", f"nats://gateway:{password}@nats:4222")
    with pytest.raises(ValidationError) as raised:
        BusSettings()
    (problem,) = describe_problems(raised.value)
    assert "NATS_URL" in problem
    assert "%2C" in problem
    assert "hidden" not in problem
    monkeypatch.setenv("NATS_URL", "nats://u:pa%2C@nats:4222,u:p@nats-2:4222")
    assert BusSettings().nats_url

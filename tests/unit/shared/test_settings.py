"""Settings: defaults, empty values, secrets, and the documents made from them."""

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
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for group in ALL_SETTINGS:
        for name in group.environment_names():
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("group", ALL_SETTINGS)
def test_every_setting_is_described_and_read_from_its_own_name(
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
def test_an_empty_value_counts_as_unset(
    group: type[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, field in group.model_fields.items():
        monkeypatch.setenv(name.upper(), REQUIRED[name] if field.is_required() else "")
    for name, field in group.model_fields.items():
        if not field.is_required():
            assert getattr(group(), name) == field.default


def test_an_address_as_a_port_is_named_as_what_kubernetes_sets(
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
def test_a_value_out_of_bounds_stops_the_service(
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


SMALL = [
    (group, written, name.upper())
    for group, name, written in [
        (BusSettings, "nats_password", "nats_password"),
        (GatewaySettings, "gateway_port", "Gateway_Port"),
        (SealingSettings, "better_auth_secret", "better_auth_secret"),
        (TelemetrySettings, "alive_file", "alive_file"),
        (GatewaySettings, "admin_api_key_previous", "admin_api_key_previous"),
    ]
]


@pytest.mark.parametrize(("group", "written", "name"), SMALL)
def test_a_name_in_small_letters_stops_a_service_which_says_what_to_write(
    group: type[Settings], written: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(written, "hidden")
    with pytest.raises(ValidationError) as raised:
        group()
    (problem,) = describe_problems(raised.value)
    assert f"{written}, and only capitals are read; write {name}" in problem
    assert "hidden" not in problem


@pytest.mark.parametrize(("group", "written", "name"), SMALL)
def test_a_name_in_small_letters_is_somebody_elses_beside_ours(
    group: type[Settings], written: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3003")
    expected = group()
    monkeypatch.setenv(written, "3004")
    assert group() == expected


def test_proxies_have_names_in_small_letters_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://small:3128")
    monkeypatch.setenv("no_proxy", "a.example,b.example")
    read = OutboundSettings()
    assert read.no_proxy == ("a.example", "b.example")
    assert read.proxies.to(httpx.URL("https://posthog.example")) == "http://small:3128"
    monkeypatch.setenv("HTTPS_PROXY", "http://capitals:3128")
    found = OutboundSettings().proxies.to(httpx.URL("https://posthog.example"))
    assert found == "http://capitals:3128"


@pytest.mark.parametrize(
    ("group", "name", "value", "read"),
    [
        (PostHogSettings, "POSTHOG_WEBHOOK_SECRET", "s3cret\n", "s3cret"),
        (PostHogSettings, "POSTHOG_HOST", "https://eu.i.posthog.com ", "https://eu.i.posthog.com"),
        (PostHogSettings, "POSTHOG_WEBHOOK_SECRET", " \n", None),
        (GatewaySettings, "GATEWAY_PORT", " 3003\r\n", 3003),
        (GatewaySettings, "ADMIN_API_KEY", "\tkey ", "key"),
        (BusSettings, "NATS_URL", " nats://h:4222\n", "nats://h:4222"),
        # Its bytes are the key: trimmed, what is sealed with it would be unreadable.
        (SealingSettings, "BETTER_AUTH_SECRET", "s3cret\n", "s3cret\n"),
    ],
)
def test_white_space_that_nobody_sees_is_trimmed(
    group: type[Settings], name: str, value: str, read: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    found = getattr(group(), name.lower())
    assert (found.get_secret_value() if isinstance(found, SecretStr) else found) == read


@pytest.mark.parametrize(
    "url",
    [
        *("nats://h:4222", "h:4222", "h", "tls://h", "nats://a:1,nats://b:2", "a:1, b:2"),
        *("nats://u:p%40ss@h:4222", "nats://[::1]:4222", "wss://h:443", "nats://h:4222/"),
    ],
)
def test_an_address_of_nats_is_what_nats_py_takes(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", url)
    assert BusSettings().nats_url == url


def test_a_stack_names_every_wrong_setting_and_not_what_it_generates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert problems() == []
    monkeypatch.setenv("INGEST_BATCH_SIZE", "0")
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hunter2@h/db")
    monkeypatch.setenv("POSTHOG_HOST", "eu.i.posthog.com")
    found = problems()
    assert sorted(line.partition(":")[0] for line in found) == [
        *("DATABASE_URL", "INGEST_BATCH_SIZE", "POSTHOG_HOST"),
    ]
    assert "hunter2" not in "".join(found)


PROXIES = ("http_proxy", "https_proxy", "all_proxy")
HIDDEN = "donotprintme" * 4
"""Base64, as a signing secret has to be."""


def test_every_key_and_secret_is_a_secret_type(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = [
        name
        for group in ALL_SETTINGS
        for name, field in group.model_fields.items()
        if name.endswith(("_key", "_secret", "_previous", "_password", "database_url", *PROXIES))
        and field.annotation is not bool
        and name != "nats_tls_key"  # the path of a file
    ]
    assert len(marked) == 20
    for number, name in enumerate(marked):
        # Addresses are checked to be some.
        prefix = "postgresql://u:" if name == "database_url" else ""
        prefix = "http://u:" if name in PROXIES else prefix
        monkeypatch.setenv(name.upper(), f"{prefix}{HIDDEN}{number:04}{'@h' if prefix else ''}")
    for group in ALL_SETTINGS:
        values = group()
        assert HIDDEN not in repr(values)
        for name, field in group.model_fields.items():
            value = getattr(values, name)
            secret = isinstance(value, SecretStr) or "SecretStr" in str(field.annotation)
            assert (name in marked) == secret


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("older, oldest,", ["older", "oldest"]),
        ('["one, with a comma", "[other", " ", ""]', ["one, with a comma", "[other"]),
        ('  ["a,b"]', ["a,b"]),
    ],
)
def test_previous_secrets_are_a_list(
    written: str, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BETTER_AUTH_SECRET", "new")
    for name in ("BETTER_AUTH_SECRET_PREVIOUS", "ADMIN_API_KEY_PREVIOUS"):
        monkeypatch.setenv(name, written)
    secrets = SealingSettings().better_auth_secret_previous
    assert [secret.get_secret_value() for secret in secrets] == read
    keys = GatewaySettings().admin_api_key_previous
    assert [key.get_secret_value() for key in keys] == read


@pytest.mark.parametrize("written", ["[hidden", '["hidden"', "[hidden,b]", '["hidden", 1]', "[[]]"])
def test_what_begins_as_a_list_and_is_none_is_refused_by_name(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_API_KEY_PREVIOUS", written)
    with pytest.raises(ValidationError) as refused:
        GatewaySettings()
    (problem,) = describe_problems(refused.value)
    assert "ADMIN_API_KEY_PREVIOUS" in problem
    assert "JSON" in problem
    assert "hidden" not in problem


@pytest.mark.parametrize(
    ("environment", "private", "explicit"),
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
def test_the_private_host_follows_the_environment(
    environment: dict[str, str],
    private: str | None,
    explicit: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert PostHogSettings().private_host == private
    assert PostHogSettings().host_explicit is explicit


def test_secrets_may_be_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nats_password").write_text("from-a-file\n")
    read = BusSettings(_secrets_dir=tmp_path)
    assert read.nats_password is not None
    assert read.nats_password.get_secret_value() == "from-a-file"
    monkeypatch.setenv("NATS_PASSWORD", "from-the-environment")
    read = BusSettings(_secrets_dir=tmp_path)
    assert read.nats_password is not None
    assert read.nats_password.get_secret_value() == "from-the-environment"


@pytest.mark.parametrize("name", ["nats_password", "health_file", "alive_file"])
def test_a_file_with_a_secret_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
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
def test_a_deprecated_name_is_read_until_the_new_one_is_set(
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
def test_a_deprecated_name_is_warned_of_unless_it_repeats_the_new_one(
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


def test_each_deprecated_name_is_one_line_in_the_log(
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
    ("character", "written"),
    [("/", "%2F"), ("?", "%3F"), ("#", "%23"), ("[", "%5B"), ("]", "%5D")],
)
def test_a_password_of_nats_that_breaks_its_address_is_named_as_what_does(
    character: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", f"nats://a:b@nats-1,nats://u:7{character}hidden@nats:4222")
    with pytest.raises(ValidationError) as refused:
        BusSettings()
    (problem,) = describe_problems(refused.value)
    assert "a password in it" in problem
    assert written in problem
    assert "hidden" not in problem
    monkeypatch.setenv("NATS_URL", f"nats://a:b@nats-1,nats://u:7{written}hidden@nats:4222")
    assert BusSettings().nats_url


@pytest.mark.parametrize("secret", ["pa,hidden", "4222,hidden", "1,2,hidden"])
def test_a_comma_in_a_password_of_nats_does_not_make_two_addresses(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", f"nats://gateway:{secret}@nats:4222")
    with pytest.raises(ValidationError) as refused:
        BusSettings()
    (problem,) = describe_problems(refused.value)
    assert "NATS_URL" in problem
    assert "%2C" in problem
    assert "hidden" not in problem
    monkeypatch.setenv("NATS_URL", "nats://u:pa%2C@nats:4222,u:p@nats-2:4222")
    assert BusSettings().nats_url

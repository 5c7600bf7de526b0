"""The summary of `hogsend up`."""

from __future__ import annotations

import msgspec
import pytest

from cli.summary import Summary, show

UP = Summary(
    gateway="http://127.0.0.1:3002",
    docs="http://127.0.0.1:3002/docs",
    nats="nats://127.0.0.1:4222",
    database="postgresql://127.0.0.1:5432",
    admin_key_file=None,
    subscriber_env_file=None,
    app_env_file=None,
    member_env_file=None,
    logs="logs",
    webhook_open=True,
)


@pytest.mark.parametrize("console", [None, "http://127.0.0.1:3002/console"])
def test_the_console_is_shown_where_there_is_one(
    console: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    show(msgspec.structs.replace(UP, console=console))
    assert ("/console" in capsys.readouterr().out) is (console is not None)


@pytest.mark.parametrize("closed", [False, True])
def test_a_webhook_is_shown_only_where_it_would_be_accepted(
    closed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show(msgspec.structs.replace(UP, webhook_open=not closed, webhook_closed=closed))
    shown = capsys.readouterr().out
    assert ("The webhook is closed" in shown) is closed
    assert ("/v1/webhooks/posthog" in shown) is not closed
    assert ("hogsend events send" in shown) is closed


@pytest.mark.parametrize("ours", [False, True])
def test_the_secret_is_asked_for_only_where_it_is_not_known_to_posthog_alone(
    ours: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show(msgspec.structs.replace(UP, webhook_open=False, webhook_secret_set=ours))
    shown = capsys.readouterr().out
    assert ("$POSTHOG_WEBHOOK_SECRET" in shown) is ours
    assert ("hogsend events send" in shown) is not ours


def test_what_cannot_be_read_is_forgotten_with_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(msgspec.structs.replace(UP, credential_unreadable=True, admin_key_file="key"))
    shown = capsys.readouterr().out
    for command in ("disconnect", "connect"):
        (line,) = (line for line in shown.splitlines() if f"hogsend {command} posthog" in line)
        assert line.strip().startswith('HOGSEND_ADMIN_KEY="$(cat key)"')
        assert line.endswith(f"--url {UP.gateway}")

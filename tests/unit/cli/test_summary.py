"""The summary of `hogsend up`."""

from __future__ import annotations

import subprocess
from pathlib import Path

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
def test_the_url_of_the_console_is_shown_when_it_is_served(
    console: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    show(msgspec.structs.replace(UP, console=console))
    assert ("/console" in capsys.readouterr().out) is (console is not None)


@pytest.mark.parametrize("is_closed", [False, True])
def test_the_example_webhook_is_shown_only_while_webhooks_are_accepted(
    is_closed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show(msgspec.structs.replace(UP, webhook_open=not is_closed, webhook_closed=is_closed))
    shown = capsys.readouterr().out
    assert ("The webhook is closed" in shown) is is_closed
    assert ("/v1/webhooks/posthog" in shown) is not is_closed
    assert ("hogsend events send" in shown) is is_closed


@pytest.mark.parametrize("is_set", [False, True])
def test_the_example_webhook_uses_the_secret_only_when_it_is_set(
    is_set: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show(msgspec.structs.replace(UP, webhook_open=False, webhook_secret_set=is_set))
    shown = capsys.readouterr().out
    assert ("$POSTHOG_WEBHOOK_SECRET" in shown) is is_set
    assert ("hogsend events send" in shown) is not is_set


def test_an_unreadable_credential_is_shown_with_the_commands_that_replace_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(msgspec.structs.replace(UP, credential_unreadable=True, admin_key_file="key"))
    shown = capsys.readouterr().out
    for command in ("disconnect", "connect"):
        (line,) = (line for line in shown.splitlines() if f"hogsend {command} posthog" in line)
        assert line.strip().startswith('HOGSEND_ADMIN_KEY="$(cat key)"')
        assert line.endswith(f"--url {UP.gateway}")


def test_a_directory_with_brackets_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(msgspec.structs.replace(UP, logs="/home/[b]/a [/x]/logs"))
    assert "/home/[b]/a [/x]/logs" in capsys.readouterr().out


def test_shown_commands_work_for_a_directory_with_blanks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    (home / "app.env").write_text("NATS_URL=nats://app\n")
    (home / "key").write_text("word")
    show(
        msgspec.structs.replace(
            UP,
            webhook_open=False,
            app_env_file=str(home / "app.env"),
            admin_key_file=str(home / "key"),
        )
    )
    shown = capsys.readouterr().out
    (load,) = (line.split(None, 1)[1] for line in shown.splitlines() if "app.env" in line)
    (send,) = (line for line in shown.splitlines() if "events send" in line)
    key = send.strip().partition('" ')[0]
    script = f'{load}; {key}"; echo "$NATS_URL $HOGSEND_ADMIN_KEY"'
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "nats://app word\n"

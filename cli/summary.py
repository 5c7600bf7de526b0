"""What `hogsend up` prints once everything runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cli.console import out
from hogsend.contract.webhooks import SECRET_HEADER, WEBHOOK_PATH


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """Addresses and files of a running stack. Secrets appear as file names only."""

    gateway: str
    docs: str
    nats: str
    database: str
    admin_key_file: str | None
    subscriber_env_file: str | None
    app_env_file: str | None
    member_env_file: str | None
    """Deprecated: the same for the NATS user's earlier name."""
    logs: str
    webhook_open: bool
    """Whether the gateway accepts webhooks without a secret."""
    webhook_closed: bool = False
    """Whether it refuses every webhook, because there was a secret and there is none now."""
    webhook_secret_set: bool = False
    """Whether `POSTHOG_WEBHOOK_SECRET` is set. A minted secret is known to PostHog alone."""
    credential_unreadable: bool = False
    """Whether what is stored for PostHog was sealed with another `BETTER_AUTH_SECRET`."""
    posthog: str | None = None
    """URL of the sandbox beside it, if there is one."""
    console: str | None = None
    """URL of the console, unless `CONSOLE` or the gateway's address hides it."""


def show(summary: Summary, next_steps: Mapping[str, str] | None = None) -> None:
    """Print it for a person.

    Args:
        summary: what runs where.
        next_steps: shell commands to try, by what they are for; if None, one that sends an event.
    """
    rows = {
        "gateway": summary.gateway,
        "console": summary.console,
        "API docs": summary.docs,
        "NATS": summary.nats,
        "PostgreSQL": summary.database,
        "PostHog": f"{summary.posthog}, a stand-in; it forgets everything when it stops"
        if summary.posthog
        else None,
        "admin key": f"in {summary.admin_key_file}"
        if summary.admin_key_file
        else "ADMIN_API_KEY from your environment",
        "subscribe": f"set -a; . {summary.subscriber_env_file}; set +a"
        if summary.subscriber_env_file
        else None,
        "report": f"set -a; . {summary.app_env_file}; set +a" if summary.app_env_file else None,
        "logs": summary.logs,
    }
    out.print("[bold green]Hogsend is up[/]\n")
    # No frame and no wrapping, so that lines can be copied.
    for name, value in rows.items():
        if value:
            out.print(f"  [bold]{name:<11}[/]{value}", soft_wrap=True)
    if summary.webhook_open:
        out.print(
            "\n[bold yellow]The webhook is open:[/] anyone who reaches the gateway can post "
            "events. Connecting PostHog closes it, and so does POSTHOG_WEBHOOK_SECRET.",
            soft_wrap=True,
        )
    if summary.webhook_closed:
        out.print(
            "\n[bold yellow]The webhook is closed:[/] there is no secret, though there was one, or "
            "WEBHOOK_OPEN is false. Connect PostHog or set POSTHOG_WEBHOOK_SECRET; "
            "WEBHOOK_OPEN=true accepts webhooks from everybody.",
            soft_wrap=True,
        )
    if summary.credential_unreadable:
        command, server = keyed_command(summary), f"--url {summary.gateway}"
        out.print(
            "\n[bold red]What is stored for PostHog cannot be read:[/] BETTER_AUTH_SECRET is not "
            "the one it was sealed with. Persons are not read, and webhooks that need the minted "
            "secret are answered 503. Put the earlier secret into BETTER_AUTH_SECRET_PREVIOUS and "
            "start again; or forget what is stored, and connect again:\n",
            soft_wrap=True,
        )
        out.print(
            f"  {command} disconnect posthog {server}\n  {command} connect posthog {server}",
            soft_wrap=True,
            markup=False,
        )
    for text, line in (next_steps or _next_steps(summary)).items():
        out.print(f"\n{text}\n")
        out.print(f"  {line.strip()}", soft_wrap=True, markup=False)
    out.print("\nCtrl-C stops everything.")


def _next_steps(summary: Summary) -> dict[str, str]:
    if summary.webhook_open or summary.webhook_secret_set:
        return {"Post an event, as PostHog would:": sample(summary)}
    # PostHog alone can post a webhook.
    send = "events send signed_up --user u_42 --email ada@example.com"
    return {
        "Send an event of your own:": f"{keyed_command(summary)} {send} --url {summary.gateway}"
    }


def keyed_command(summary: Summary) -> str:
    """Return the command with the admin key, as it can be typed in another terminal."""
    file = summary.admin_key_file
    # In the environment: a process list shows arguments.
    key = f'HOGSEND_ADMIN_KEY="$(cat {file})" ' if file else ""
    return f"{key}{typed_command()}"


def typed_command() -> str:
    """Return the command as it can be typed: with its path unless PATH finds it."""
    beside_python = Path(sys.executable).with_name("hogsend")
    return "hogsend" if shutil.which("hogsend") else str(beside_python)


def sample(summary: Summary) -> str:
    """Return a shell command that posts a webhook; refers to the secret by variable."""
    header = "" if summary.webhook_open else f'-H "{SECRET_HEADER}: $POSTHOG_WEBHOOK_SECRET" '
    return (
        f"  curl {summary.gateway}{WEBHOOK_PATH} {header}-d "
        '\'{"event":{"event":"signed_up","distinct_id":"u_42"},'
        '"person":{"properties":{"email":"ada@example.com"}}}\''
    )

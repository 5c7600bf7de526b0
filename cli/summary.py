"""The summary that `hogsend up` prints once everything runs."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from rich.text import Text

from cli.console import out, print_hanging
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
    """Deprecated: the file under the earlier name of the NATS user."""
    logs: str
    webhook_open: bool
    """Whether the gateway accepts webhooks without a secret."""
    webhook_closed: bool = False
    """Whether the gateway refuses every webhook, because it had a secret once and has none now."""
    webhook_secret_set: bool = False
    """Whether `POSTHOG_WEBHOOK_SECRET` is set. Only PostHog knows a generated secret."""
    credential_unreadable: bool = False
    """Whether the stored credential was sealed with another `BETTER_AUTH_SECRET`."""
    posthog: str | None = None
    """URL of the sandbox, if it runs with the stack."""
    console: str | None = None
    """URL of the console; None where `CONSOLE` or the gateway's address turns it off."""


def show(summary: Summary, next_steps: Mapping[str, str] | None = None) -> None:
    """Print the summary as text.

    Args:
        summary: the running stack.
        next_steps: shell commands to try, by their purpose; None for one that sends an event.
    """
    rows = {
        "gateway": summary.gateway,
        "console": summary.console,
        "API docs": summary.docs,
        "NATS": summary.nats,
        "PostgreSQL": summary.database,
        "PostHog": f"{summary.posthog}, the sandbox; it forgets everything when it stops"
        if summary.posthog
        else None,
        "admin key": f"in {summary.admin_key_file}"
        if summary.admin_key_file
        else "ADMIN_API_KEY from your environment",
        "subscribe": summary.subscriber_env_file and load_command(summary.subscriber_env_file),
        "report": summary.app_env_file and load_command(summary.app_env_file),
        "logs": summary.logs,
    }
    out.print("Hogsend is up\n", style="bold green")
    # Without a frame and without wrapping, so that lines can be copied.
    for name, value in rows.items():
        if value:
            out.print(Text.assemble((f"  {name:<11}", "bold"), value), soft_wrap=True)
    if summary.webhook_open:
        print_hanging(
            out,
            ("\nThe webhook is open: ", "bold yellow"),
            "anyone who reaches the gateway can post events. Connect PostHog or set "
            "POSTHOG_WEBHOOK_SECRET to close it.",
            indent=0,
        )
    if summary.webhook_closed:
        print_hanging(
            out,
            ("\nThe webhook is closed: ", "bold yellow"),
            "every webhook is refused, since there is no webhook secret, and there was one before "
            "or WEBHOOK_OPEN is false. Connect PostHog or set POSTHOG_WEBHOOK_SECRET; or set "
            "WEBHOOK_OPEN=true to accept webhooks from any sender.",
            indent=0,
        )
    if summary.credential_unreadable:
        command, server = command_with_admin_key(summary), f"--url {summary.gateway}"
        print_hanging(
            out,
            ("\nThe stored credential for PostHog cannot be read: ", "bold red"),
            "it was sealed with another BETTER_AUTH_SECRET. Persons are not read, and webhooks "
            "that need the generated secret get a 503. Set BETTER_AUTH_SECRET_PREVIOUS to the "
            "earlier secret and start again; or delete the credential and connect again:",
            indent=0,
        )
        out.print(
            f"\n  {command} disconnect posthog {server}\n  {command} connect posthog {server}",
            soft_wrap=True,
        )
    for text, line in (next_steps or _next_steps(summary)).items():
        out.print(f"\n{text}\n")
        out.print(f"  {line.strip()}", soft_wrap=True)
    out.print("\nCtrl-C stops everything.")


def _next_steps(summary: Summary) -> dict[str, str]:
    if summary.webhook_open or summary.webhook_secret_set:
        return {"Post an event, as PostHog would:": sample(summary)}
    # Only PostHog knows the webhook secret.
    command, server = command_with_admin_key(summary), f"--url {summary.gateway}"
    send = f"{command} events send signed_up --user u_42 --email ada@example.com {server}"
    return {"Send an event of your own:": send}


def load_command(env_file: str) -> str:
    """Return a shell command that loads an env file."""
    return f"set -a; . {shlex.quote(env_file)}; set +a"


def command_with_admin_key(summary: Summary) -> str:
    """Return the `hogsend` command with its admin key, to be pasted into another terminal."""
    file = summary.admin_key_file
    # The key is passed in the environment, since other users can see a process' arguments.
    key = f'HOGSEND_ADMIN_KEY="$(cat {shlex.quote(file)})" ' if file else ""
    return f"{key}{shell_command()}"


def shell_command() -> str:
    """Return `hogsend`, or its absolute path if it is not in PATH."""
    installed = Path(sys.executable).with_name("hogsend")
    return "hogsend" if shutil.which("hogsend") else shlex.quote(str(installed))


def sample(summary: Summary) -> str:
    """Return a shell command that posts a webhook, with the secret as a shell variable."""
    header = "" if summary.webhook_open else f'-H "{SECRET_HEADER}: $POSTHOG_WEBHOOK_SECRET" '
    return (
        f"  curl {summary.gateway}{WEBHOOK_PATH} {header}-d "
        '\'{"event":{"event":"signed_up","distinct_id":"u_42"},'
        '"person":{"properties":{"email":"ada@example.com"}}}\''
    )

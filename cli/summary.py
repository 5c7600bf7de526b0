"""What `hogsend up` prints once everything runs."""

from __future__ import annotations

import msgspec

from cli.console import out


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


def show(summary: Summary, admin_key: str | None) -> None:
    """Print it for a person, with the admin key if the stack generated it."""
    rows = {
        "gateway": summary.gateway,
        "API docs": summary.docs,
        "NATS": summary.nats,
        "PostgreSQL": summary.database,
        "admin key": admin_key or "ADMIN_API_KEY from your environment",
        "kept in": summary.admin_key_file,
        "subscribe": f"set -a; . {summary.subscriber_env_file}; set +a"
        if summary.subscriber_env_file
        else None,
        "take part": f"set -a; . {summary.app_env_file}; set +a" if summary.app_env_file else None,
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
            "events. Set POSTHOG_WEBHOOK_SECRET to close it.",
            soft_wrap=True,
        )
    out.print("\nPost an event, as PostHog would:\n")
    out.print(sample(summary), soft_wrap=True, markup=False)
    out.print("\nCtrl-C stops everything.")


def sample(summary: Summary) -> str:
    """Return a shell command that posts a webhook; refers to the secret by variable."""
    header = (
        "" if summary.webhook_open else '-H "x-posthog-webhook-secret: $POSTHOG_WEBHOOK_SECRET" '
    )
    return (
        f"  curl {summary.gateway}/v1/webhooks/posthog {header}-d "
        '\'{"event":{"event":"signed_up","distinct_id":"u_42"},'
        '"person":{"properties":{"email":"ada@example.com"}}}\''
    )

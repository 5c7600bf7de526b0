"""Whether services use the servers that `compose.yaml` runs, or some of the operator's own.

What this command saves and moves is in the servers of `compose.yaml`. Where services use others,
these are empty, or hold what was left behind in them.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from cli.backup.postgres_tools import SCHEMAS
from cli.deployment.compose import Compose
from cli.deployment.layout import SERVERS
from cli.errors import CommandError
from hogsend.service.postgres_address import PostgresAddress

POSTGRES = "postgres"
_SESSIONS = (
    "SELECT DISTINCT usename FROM pg_stat_activity "
    "WHERE usename = ANY ('{credentials,ingest,provisioner,analytics}')"
)
_PARTS = (
    "save them by themselves: `hogsend streams backup` with NATS_URL, and pg_dump "
    '(docs/deploy.md, at the end of "Backup and restore")'
)


def require_nats(compose: Compose, fix: str = _PARTS) -> None:
    """Check that services use the NATS servers of `compose.yaml`.

    Raises:
        CommandError: HOGSEND_NATS_URL names others.
    """
    urls = compose.env_file.values().get("HOGSEND_NATS_URL", "nats://nats:4222").split(",")
    hosts = {urlsplit(url.strip()).hostname or "" for url in urls}
    if not hosts & set(SERVERS):
        raise CommandError(
            "the streams are on NATS servers of your own, those of HOGSEND_NATS_URL, and not on "
            "those of compose.yaml",
            fix,
        )


def require_postgres(compose: Compose) -> None:
    """Check that services use the PostgreSQL of `compose.yaml`, which may be through a pooler.

    Raises:
        CommandError: the address of one names another, and it is not connected to this one.
    """
    elsewhere = {service: hosts for service in SCHEMAS if (hosts := _hosts(compose, service))}
    if not elsewhere:
        return
    query = ("psql", "--username=postgres", "--dbname=hogsend", "-At", "-c", _SESSIONS)
    connected = compose.run("exec", "-T", POSTGRES, *query).split()
    for service, hosts in elsewhere.items():
        if service not in connected:
            raise CommandError(
                f"{service} uses the PostgreSQL at {', '.join(hosts)}, and not the one of "
                "compose.yaml",
                _PARTS,
            )


def _hosts(compose: Compose, service: str) -> list[str]:
    """Where a service's PostgreSQL is, unless it is the one of `compose.yaml`."""
    try:
        url = (compose.secrets / service / "database_url").read_text().strip()
        hosts = PostgresAddress.parse(url).hosts
    except (OSError, ValueError):
        # The service would not start with it either, and says why.
        return []
    return [host for host, _ in hosts if host != POSTGRES]

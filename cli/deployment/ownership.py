"""Checks that the services use the NATS and PostgreSQL of `compose.yaml`, not external ones.

Backups and moves of the layout handle the data in the servers of `compose.yaml`. If the services
use external servers, those of `compose.yaml` are empty or have outdated data.
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
_BACK_UP_SEPARATELY = (
    "back them up separately: `hogsend streams backup` with NATS_URL, and pg_dump "
    '(docs/deploy.md, at the end of "Backup and restore")'
)


def require_nats(compose: Compose, fix: str = _BACK_UP_SEPARATELY) -> None:
    """Check that the services use the NATS servers of `compose.yaml`.

    Raises:
        CommandError: HOGSEND_NATS_URL has only other servers.
    """
    urls = compose.env_file.values().get("HOGSEND_NATS_URL", "nats://nats:4222").split(",")
    hosts = {urlsplit(url.strip()).hostname or "" for url in urls}
    if not hosts & set(SERVERS):
        raise CommandError(
            "the streams are on the NATS servers in HOGSEND_NATS_URL, not on those of compose.yaml",
            fix,
        )


def require_postgres(compose: Compose) -> None:
    """Check that the services use the PostgreSQL of `compose.yaml`, directly or through a pooler.

    Raises:
        CommandError: the URL of a service has another host, and the service has no session on the
            PostgreSQL of `compose.yaml`.
    """
    external = {
        service: hosts for service in SCHEMAS if (hosts := _external_hosts(compose, service))
    }
    if not external:
        return
    query = ("psql", "--username=postgres", "--dbname=hogsend", "-At", "-c", _SESSIONS)
    connected = compose.run("exec", "-T", POSTGRES, *query).split()
    for service, hosts in external.items():
        if service not in connected:
            raise CommandError(
                f"{service} uses the PostgreSQL at {', '.join(hosts)}, not the one of compose.yaml",
                _BACK_UP_SEPARATELY,
            )


def _external_hosts(compose: Compose, service: str) -> list[str]:
    """Return the hosts in a service's database URL other than the one of `compose.yaml`."""
    try:
        url = (compose.secrets / service / "database_url").read_text().strip()
        hosts = PostgresAddress.parse(url).hosts
    except (OSError, ValueError):
        # The service does not start with it either, and reports the reason.
        return []
    return [host for host, _ in hosts if host != POSTGRES]

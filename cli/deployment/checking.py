"""Finds settings in `.env` that Compose would not pass on, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping

from cli.deployment.layout import Chosen
from cli.stack.settings import ALL_SETTINGS
from hogsend.service.settings.names import miscased

REFUSED: dict[str, str] = {
    "ADMIN_API_KEY": "write it into deploy/secrets/gateway/admin_api_key; for the command line it "
    "is HOGSEND_ADMIN_KEY",
    "BETTER_AUTH_SECRET": "write it into deploy/secrets/credentials/better_auth_secret",
    "DATABASE_URL": "each service has one of its own, deploy/secrets/<service>/database_url; "
    "`generate_secrets.py --postgres HOST` writes them",
    "NATS_URL": "it is HOGSEND_NATS_URL here, since operator.env and app.env set NATS_URL to users "
    "of their own",
    "NATS_USER": "remove it: each service is a user of its own",
    "NATS_PASSWORD": "remove it: passwords are in deploy/secrets/<service>/nats_password",
    "GATEWAY_HOST": "it is GATEWAY_PUBLISH here, for example 0.0.0.0:3002",
    "GATEWAY_PORT": "it is GATEWAY_PUBLISH here, for example 127.0.0.1:3002",
    "SPOOL_DIR": "remove it: the spool is the volume `spool`",
    "HEALTH_FILE": "remove it: the image sets it",
    "ALIVE_FILE": "remove it: the image sets it",
    "HOGSEND_HOME": "remove it: it is for `hogsend up`",
    "NATS_PORT": "it is NATS_PUBLISH here, for example 127.0.0.1:4222",
    "NATS_CLIENT_PORT": "remove it: `hogsend compose layout` sets it while it moves streams",
}
"""Settings that no container gets from `.env`, each with what to do instead."""

IMAGE: dict[str, str] = {
    "GATEWAY_HOST": "0.0.0.0",  # noqa: S104 - what the Dockerfile says
    "SPOOL_DIR": "/var/lib/hogsend/spool",
    "HEALTH_FILE": "/tmp/hogsend-health",  # noqa: S108 - what the Dockerfile says
    "ALIVE_FILE": "/tmp/hogsend-health",  # noqa: S108
}
"""What the image sets, and where the check runs is therefore not the operator's."""

SEEN = "SEEN_"
"""Begins the names under which `compose.yaml` passes on what it has read."""


def ignored(environment: Mapping[str, str]) -> list[str]:
    """Name each setting that would be ignored, with what to do."""
    names = {name for group in ALL_SETTINGS for name in group.environment_names()}
    return [
        *(
            f"{name} has no effect here: {instead}"
            for name, instead in REFUSED.items()
            if environment.get(name, "").strip() not in {"", IMAGE.get(name, "")}
        ),
        *(
            f"{one.written} has no effect here: write {one.name}"
            for one in miscased([*names, *SEEN_NAMES], environment)
        ),
    ]


def disagreements(environment: Mapping[str, str]) -> list[str]:
    """Say where the layout contradicts itself, and whether Compose has read `.env` at all."""
    seen = {name: environment.get(SEEN + name, "") for name in SEEN_NAMES}
    chosen = Chosen(
        seen["COMPOSE_PROFILES"],
        seen["NATS_CONFIG"],
        seen["NATS_REPLICAS"],
        seen["HOGSEND_NATS_URL"],
    )
    problem = chosen.problem()
    found = [f"{problem}: run `hogsend compose layout single`, or `cluster`"] if problem else []
    unread = [name for name in SEEN_NAMES if environment.get(name) not in {None, "", seen[name]}]
    if unread:
        found.append(
            f"services would not get what .env says of {', '.join(unread)}: run docker compose "
            "without --env-file, and without these variables in the shell"
        )
    return found


SEEN_NAMES = (
    "COMPOSE_PROFILES",
    "NATS_CONFIG",
    "NATS_REPLICAS",
    "HOGSEND_NATS_URL",
    "POSTHOG_WEBHOOK_SECRET",
)
"""What `compose.yaml` passes on to the check as it has read it."""

"""Finds settings in `.env` that Compose would not pass to the containers."""

from __future__ import annotations

from collections.abc import Mapping

from cli.deployment.layout import Chosen
from cli.stack.settings import ALL_SETTINGS
from hogsend.service.settings.names import miscased

REFUSED: dict[str, str] = {
    "ADMIN_API_KEY": "write the key into deploy/secrets/gateway/admin_api_key; for the `hogsend` "
    "command set HOGSEND_ADMIN_KEY",
    "BETTER_AUTH_SECRET": "write it into deploy/secrets/credentials/better_auth_secret",
    "DATABASE_URL": "each service has its own in deploy/secrets/<service>/database_url; write them "
    "with `generate_secrets.py --postgres HOST`",
    "NATS_URL": "set HOGSEND_NATS_URL instead; operator.env and app.env set NATS_URL for other "
    "users",
    "NATS_USER": "remove it; each service has its own NATS user",
    "NATS_PASSWORD": "remove it; the passwords are in deploy/secrets/<service>/nats_password",
    "GATEWAY_HOST": "set GATEWAY_PUBLISH instead, for example 0.0.0.0:3002",
    "GATEWAY_PORT": "set GATEWAY_PUBLISH instead, for example 127.0.0.1:3002",
    "SPOOL_DIR": "remove it; the spool is in the volume `spool`",
    "HEALTH_FILE": "remove it; the image sets it",
    "ALIVE_FILE": "remove it; the image sets it",
    "HOGSEND_HOME": "remove it; it is a setting of `hogsend up`",
    "NATS_PORT": "set NATS_PUBLISH instead, for example 127.0.0.1:4222",
    "NATS_CLIENT_PORT": "remove it; `hogsend compose layout` sets it while it moves streams",
}
"""Settings that no container gets from `.env`, each with its fix."""

IMAGE: dict[str, str] = {
    "GATEWAY_HOST": "0.0.0.0",  # noqa: S104 - as in the Dockerfile
    "SPOOL_DIR": "/var/lib/hogsend/spool",
    "HEALTH_FILE": "/tmp/hogsend-health",  # noqa: S108 - as in the Dockerfile
    "ALIVE_FILE": "/tmp/hogsend-health",  # noqa: S108
}
"""Values that the image itself sets, in the container that runs the check."""

SEEN = "SEEN_"
"""Prefix of the names under which `compose.yaml` passes the values that Compose has read."""


def ignored(environment: Mapping[str, str]) -> list[str]:
    """Return a problem, with its fix, for each setting that has no effect in a deployment."""
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
    """Return problems of the layout, and of values in `.env` that Compose has not read."""
    seen = {name: environment.get(SEEN + name, "") for name in SEEN_NAMES}
    chosen = Chosen(
        seen["COMPOSE_PROFILES"],
        seen["NATS_CONFIG"],
        seen["NATS_REPLICAS"],
        seen["HOGSEND_NATS_URL"],
    )
    problem = chosen.problem()
    problems = (
        [f"{problem}: run `hogsend compose layout single`, or `hogsend compose layout cluster`"]
        if problem
        else []
    )
    unread = [name for name in SEEN_NAMES if environment.get(name) not in {None, "", seen[name]}]
    if unread:
        problems.append(
            f"Compose does not use the values in .env of {', '.join(unread)}: run docker compose "
            "without --env-file, and without these variables in the shell"
        )
    return problems


SEEN_NAMES = (
    "COMPOSE_PROFILES",
    "NATS_CONFIG",
    "NATS_REPLICAS",
    "HOGSEND_NATS_URL",
    "POSTHOG_WEBHOOK_SECRET",
)
"""Variables whose values `compose.yaml` passes to the check with the prefix `SEEN`."""

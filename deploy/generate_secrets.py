#!/usr/bin/env python3
"""Generate all passwords and keys of a deployment, and rotate one of them.

Needs only Python. Existing files are kept, with the operator's edits and the host names of an
earlier run, so running the script again, with any options, only adds missing files.
docs/rotation.md describes how to rotate each secret while everything runs.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from secrets_directory import Directory, new_secret, new_signing_key, with_password
from settings_files import SettingsFiles

SERVICES = ("gateway", "credentials", "ingest", "provisioner", "analytics")
WITH_DATABASE = SERVICES[1:]
OTHERS = ("subscriber", "app", "operator")
DEPRECATED = {"member": "app"}
"""Renamed NATS users, each with its new name; the old names work for one more version."""
DEFAULT = Path(__file__).parent / "secrets"


def generate(directory: Directory, *, nats: list[str], postgres: str, published: str) -> None:
    """Write all files of a deployment.

    Args:
        directory: the target directory.
        nats: host names of the NATS servers, for the routes between them.
        postgres: host name of PostgreSQL.
        published: address of NATS for services outside the deployment, as `host:port`.
    """
    passwords = {
        user: directory.secret(f"{user}/nats_password")
        for user in (*SERVICES, *OTHERS, *DEPRECATED)
    }
    directory.derived(
        "nats/passwords.conf",
        "".join(f'PASSWORD_{user.upper()}: "{word}"\n' for user, word in passwords.items()),
    )
    route = directory.secret("nats/route_password")
    routes = ", ".join(f'"nats-route://route:{route}@{host}:6222"' for host in nats)
    directory.url_file(
        "nats/cluster.conf",
        f"cluster {{\n  name: hogsend\n  port: 6222\n"
        f'  authorization {{ user: route, password: "{route}", timeout: 5 }}\n'
        f"  routes: [{routes}]\n}}\n",
        "route",
        route,
    )
    for user in (*OTHERS, *DEPRECATED):
        note = f"# Deprecated: use {DEPRECATED[user]}.env\n" if user in DEPRECATED else ""
        url = f"nats://{user}:{passwords[user]}@{published}"
        existing = re.search(r"^NATS_URL=(.+)$", directory.read(f"{user}.env") or "", re.MULTILINE)
        url = with_password(existing[1], user, passwords[user]) or url if existing else url
        directory.derived(
            f"{user}.env",
            f"{note}NATS_URL={url}\n"
            "# The same, given apart (docs/bus.md).\n"
            f"NATS_SERVER={url.replace(f'{user}:{passwords[user]}@', '')}\n"
            f"NATS_USERNAME={user}\n"
            f"NATS_PASS={passwords[user]}\n"
            f"NATS_INBOX_PREFIX=_INBOX_{user}\n",
        )

    superuser = directory.secret("postgres/password")
    changes = [f"ALTER ROLE postgres PASSWORD '{superuser}';"]
    roles = ["REVOKE CONNECT ON DATABASE hogsend FROM PUBLIC;"]
    for service in WITH_DATABASE:
        password = directory.secret(f"postgres/{service}_password")
        url = f"postgresql://{service}:{password}@{postgres}:5432/hogsend\n"
        directory.url_file(f"{service}/database_url", url, service, password)
        changes.append(f"ALTER ROLE {service} PASSWORD '{password}';")
        roles += [
            f"CREATE ROLE {service} LOGIN PASSWORD '{password}';",
            f"GRANT CONNECT, CREATE ON DATABASE hogsend TO {service};",
        ]
    directory.derived("postgres/roles.sql", "\n".join(roles) + "\n")
    # For a server that has the roles already; roles.sql is for one without them.
    directory.derived("postgres/passwords.sql", "\n".join(changes) + "\n")

    # For settings that an operator adds for Kubernetes: PostHog's keys, and previous secrets.
    directory.file("keys.env", "")
    directory.secret("gateway/admin_api_key")
    directory.secret("credentials/better_auth_secret")


PREVIOUS = {
    "admin_api_key": ("gateway/admin_api_key", "ADMIN_API_KEY_PREVIOUS"),
    "better_auth_secret": ("credentials/better_auth_secret", "BETTER_AUTH_SECRET_PREVIOUS"),
}
"""Secrets of which several can be valid at a time: the file, and the setting with previous ones."""


SIGNING = "POSTHOG_SIGNING_SECRET"
IN_SETTINGS = (
    "posthog_webhook_secret",
    "posthog_signing_secret",
    "admin_read_api_key",
    "ingest_api_key",
)
"""Secrets that are settings in `.env` or `keys.env`, without files. Each may be unset."""


def make_mounts_readable(deploy: Path) -> None:
    """Make the mounted directories without secrets world-readable, whatever the umask was.

    Containers run as other users than the owner of this checkout.
    """
    mounted = [deploy / "nats", deploy / "grafana", deploy / "tls"]
    entries = [path for directory in mounted[:2] for path in directory.rglob("*")]
    for path in (*mounted, *entries):
        readable = 0o555 if path.is_dir() else 0o444
        if path.exists() and path.stat().st_mode & readable != readable:
            path.chmod(path.stat().st_mode & 0o777 | readable)


def rotatable() -> dict[str, str]:
    """Return the names of the secrets in files that can be rotated, with their files."""
    users = (*SERVICES, *OTHERS, *DEPRECATED)
    return {
        **{name: file for name, (file, _) in PREVIOUS.items()},
        **{f"nats/{user}": f"{user}/nats_password" for user in users},
        "nats/route": "nats/route_password",
        "postgres/postgres": "postgres/password",
        **{f"postgres/{service}": f"postgres/{service}_password" for service in WITH_DATABASE},
    }


def prepare(directory: Directory, settings: SettingsFiles, name: str) -> None:
    """Make the next secret valid in all services, before any of them seals data with it."""
    file, setting = PREVIOUS[name]
    upcoming = directory.read(f"{file}.next") or new_secret()
    directory.replace(f"{file}.next", f"{upcoming}\n")
    settings.add(setting, upcoming)


def rotate(directory: Directory, settings: SettingsFiles, name: str) -> None:
    """Replace a secret. If several can be valid at a time, the previous one stays valid."""
    if name in IN_SETTINGS:
        setting = name.upper()
        current = settings.value(setting)
        if current is None:
            sys.exit(f"{setting} is not set in .env or keys.env; see docs/rotation.md")
        settings.add(f"{setting}_PREVIOUS", current)
        settings.replace(setting, new_signing_key() if setting == SIGNING else new_secret())
        return
    file = rotatable()[name]
    if name not in PREVIOUS:
        directory.replace(file, f"{new_secret()}\n")
        return
    _, setting = PREVIOUS[name]
    current, upcoming = directory.read(file), directory.read(f"{file}.next") or new_secret()
    # Added before the file is replaced, so that an interrupted run leaves both secrets valid.
    if current:
        settings.add(setting, current)
    directory.replace(file, f"{upcoming}\n")
    settings.remove(setting, upcoming)
    directory.remove(f"{file}.next")


def main() -> int:
    """Run the script."""
    names, with_previous = sorted([*rotatable(), *IN_SETTINGS]), sorted(PREVIOUS)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        default=DEFAULT,
        help="directory to write to (default: deploy/secrets)",
    )
    parser.add_argument(
        "--nats",
        action="append",
        metavar="HOST",
        help="host name of a NATS server, for the routes of a cluster; can be repeated",
    )
    parser.add_argument(
        "--postgres",
        default="postgres",
        metavar="HOST",
        help="host name of PostgreSQL (default: postgres)",
    )
    parser.add_argument(
        "--published",
        default="127.0.0.1:4222",
        metavar="HOST:PORT",
        help="address of NATS for services outside the deployment (default: 127.0.0.1:4222)",
    )
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--rotate",
        choices=names,
        metavar="NAME",
        help=f"replace a secret; NAME is one of {', '.join(names)}",
    )
    change.add_argument(
        "--prepare",
        choices=with_previous,
        metavar="NAME",
        help="generate the next secret and make it valid, before --rotate makes it the current one",
    )
    change.add_argument(
        "--retire",
        choices=[*with_previous, *IN_SETTINGS],
        metavar="NAME",
        help="make the previous secrets invalid",
    )
    chosen = parser.parse_args()
    is_default = chosen.directory.resolve() == DEFAULT.resolve()
    env_file = DEFAULT.parents[1] / ".env"
    directory = Directory(chosen.directory)
    settings = SettingsFiles(chosen.directory / "keys.env", *([env_file] if is_default else []))
    if chosen.prepare:
        prepare(directory, settings, chosen.prepare)
    if chosen.rotate:
        rotate(directory, settings, chosen.rotate)
    if chosen.retire:
        settings.clear(f"{chosen.retire.upper()}_PREVIOUS")
    generate(
        directory,
        nats=chosen.nats or ["nats", "nats-2", "nats-3"],
        postgres=chosen.postgres,
        published=chosen.published,
    )
    if is_default:
        make_mounts_readable(DEFAULT.parent)
    if is_default and not env_file.exists():
        # compose.yaml reads it, and Compose fails without the file.
        env_file.touch(mode=0o600)
    lines = [f"{file} changed" for file in dict.fromkeys(settings.written)]
    if directory.written:
        lines.append(f"{len(directory.written)} files written to {chosen.directory}")
    print("\n".join(lines) or f"nothing to do: {chosen.directory} has all files")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

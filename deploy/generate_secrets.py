#!/usr/bin/env python3
"""Make up every password and key of a deployment, once.

Needs nothing but Python. Files that exist are kept, so running it again only adds what is missing;
to rotate one, delete its file, run this again, and start what reads it anew.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

SERVICES = ("gateway", "credentials", "ingest", "provisioner", "analytics")
WITH_DATABASE = SERVICES[1:]
OTHERS = ("subscriber", "app", "operator")
DEPRECATED = {"member": "app"}
"""NATS users that were renamed; they work for one more version."""
DEFAULT = Path(__file__).parent / "secrets"
ENTROPY_BYTES = 24


class Directory:
    """Where the files are: only its owner may enter, and whoever is given a file may read it."""

    def __init__(self, path: Path) -> None:
        """Make the directory when it is missing."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        self._path = path
        self.written: list[str] = []

    def secret(self, name: str) -> str:
        """Give a secret, made up when its file is missing."""
        # A letter first: nats-server reads `$NAME` as a number when it can.
        return self.file(name, f"s{secrets.token_hex(ENTROPY_BYTES)}\n").strip()

    def file(self, name: str, content: str) -> str:
        """Write a file unless it is there; gives what is in it."""
        file = self._path / name
        if file.exists():
            return file.read_text()
        self._write(name, content)
        return content

    def derived(self, name: str, content: str) -> None:
        """Write a file that follows from others, whether it is there or not."""
        file = self._path / name
        if not file.exists() or file.read_text() != content:
            self._write(name, content)

    def _write(self, name: str, content: str) -> None:
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(content)
        # Containers run as another user than the one who made the file.
        file.chmod(0o444)
        self.written.append(name)


def make(directory: Directory, *, nats: list[str], postgres: str, published: str) -> None:
    """Write everything for servers at these names.

    Args:
        directory: where to.
        nats: host names of the NATS servers, for the routes between them.
        postgres: host name of PostgreSQL.
        published: address NATS is published at, for services outside.
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
    directory.derived(
        "nats/cluster.conf",
        f"cluster {{\n  name: hogsend\n  port: 6222\n"
        f'  authorization {{ user: route, password: "{route}", timeout: 5 }}\n'
        f"  routes: [{routes}]\n}}\n",
    )
    for user in (*OTHERS, *DEPRECATED):
        note = f"# Deprecated: use {DEPRECATED[user]}.env\n" if user in DEPRECATED else ""
        directory.derived(
            f"{user}.env",
            f"{note}NATS_URL=nats://{user}:{passwords[user]}@{published}\n"
            "# The same, given apart (docs/bus.md).\n"
            f"NATS_SERVER=nats://{published}\n"
            f"NATS_USERNAME={user}\n"
            f"NATS_PASS={passwords[user]}\n"
            f"NATS_INBOX_PREFIX=_INBOX_{user}\n",
        )

    directory.secret("postgres/password")
    roles = ["REVOKE CONNECT ON DATABASE hogsend FROM PUBLIC;"]
    for service in WITH_DATABASE:
        word = directory.secret(f"postgres/{service}_password")
        directory.derived(
            f"{service}/database_url", f"postgresql://{service}:{word}@{postgres}:5432/hogsend\n"
        )
        roles += [
            f"CREATE ROLE {service} LOGIN PASSWORD '{word}';",
            f"GRANT CONNECT, CREATE ON DATABASE hogsend TO {service};",
        ]
    directory.derived("postgres/roles.sql", "\n".join(roles) + "\n")

    # What an operator adds by hand for Kubernetes: PostHog's keys, and earlier secrets.
    directory.file("keys.env", "")
    directory.secret("gateway/admin_api_key")
    directory.secret("credentials/better_auth_secret")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--nats", action="append", metavar="HOST", help="a NATS server's host name")
    parser.add_argument("--postgres", default="postgres", metavar="HOST")
    parser.add_argument(
        "--published", default="127.0.0.1:4222", metavar="HOST:PORT", help="NATS from outside"
    )
    chosen = parser.parse_args()
    directory = Directory(chosen.directory)
    make(
        directory,
        nats=chosen.nats or ["nats", "nats-2", "nats-3"],
        postgres=chosen.postgres,
        published=chosen.published,
    )
    if chosen.directory == DEFAULT:
        # compose.yaml reads it, and Compose refuses to start without it.
        env_file = DEFAULT.parents[1] / ".env"
        if not env_file.exists():
            env_file.touch(mode=0o600)
    print(  # noqa: T201
        f"{len(directory.written)} files written to {chosen.directory}"
        if directory.written
        else f"everything is there already, in {chosen.directory}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

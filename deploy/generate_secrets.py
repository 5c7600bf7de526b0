#!/usr/bin/env python3
"""Make up every password and key of a deployment, once, and change one of them.

Needs nothing but Python. What exists is kept, edits of it included, and so is what an earlier run
was told of host names: running it again, with whatever flags, only adds what is missing.
docs/rotation.md says how each secret is changed while everything runs.
"""

from __future__ import annotations

import argparse
import base64
import re
import secrets
import sys
from pathlib import Path

from settings_files import SettingsFiles

SERVICES = ("gateway", "credentials", "ingest", "provisioner", "analytics")
WITH_DATABASE = SERVICES[1:]
OTHERS = ("subscriber", "app", "operator")
DEPRECATED = {"member": "app"}
"""NATS users that were renamed; they work for one more version."""
DEFAULT = Path(__file__).parent / "secrets"
ENTROPY_BYTES = 24


def new_key() -> str:
    """Make up a key of Standard Webhooks, which is base64."""
    return base64.b64encode(secrets.token_bytes(ENTROPY_BYTES)).decode()


def new_word() -> str:
    """Make up a secret."""
    # A letter first: nats-server reads `$NAME` as a number when it can.
    return f"s{secrets.token_hex(ENTROPY_BYTES)}"


def with_password(text: str, user: str, word: str) -> str | None:
    """Put a user's password into the addresses in a text; None when there is none of that user."""
    changed, found = re.subn(rf"(://{user}:)[^@/\s]*@", rf"\g<1>{word}@", text)
    # How the routes of NATS' configuration are checked.
    changed = re.sub(r'(password: ")[^"]*"', rf'\g<1>{word}"', changed)
    return changed if found else None


class Directory:
    """Where the files are: only its owner may enter, and who is given a file may read it."""

    def __init__(self, path: Path) -> None:
        """Make the directory when it is missing."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        self._path = path
        self.written: list[str] = []

    def secret(self, name: str) -> str:
        """Give a secret, made up when its file is missing."""
        return self.file(name, f"{new_word()}\n").strip()

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

    def address(self, name: str, content: str, user: str, word: str) -> None:
        """Write a file with a user's address; in one that exists, only the password is changed.

        Hosts and parameters may be the operator's: an earlier run was told them, or an editor.
        """
        self.derived(name, with_password(self.take(name, strip=False) or "", user, word) or content)

    def replace(self, name: str, content: str) -> None:
        """Write a secret in place of the one before."""
        self._write(name, content)

    def take(self, name: str, *, strip: bool = True) -> str | None:
        """Give what is in a file, without its line end; None when there is none."""
        file = self._path / name
        if not file.exists():
            return None
        return file.read_text().strip() if strip else file.read_text()

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self._path / name).unlink(missing_ok=True)

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
    directory.address(
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
        known = re.search(r"^NATS_URL=(.+)$", directory.take(f"{user}.env") or "", re.MULTILINE)
        url = with_password(known[1], user, passwords[user]) or url if known else url
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
        word = directory.secret(f"postgres/{service}_password")
        url = f"postgresql://{service}:{word}@{postgres}:5432/hogsend\n"
        directory.address(f"{service}/database_url", url, service, word)
        changes.append(f"ALTER ROLE {service} PASSWORD '{word}';")
        roles += [
            f"CREATE ROLE {service} LOGIN PASSWORD '{word}';",
            f"GRANT CONNECT, CREATE ON DATABASE hogsend TO {service};",
        ]
    directory.derived("postgres/roles.sql", "\n".join(roles) + "\n")
    # For a server that has the roles already; roles.sql is for one that has not.
    directory.derived("postgres/passwords.sql", "\n".join(changes) + "\n")

    # What an operator adds by hand for Kubernetes: PostHog's keys, and earlier secrets.
    directory.file("keys.env", "")
    directory.secret("gateway/admin_api_key")
    directory.secret("credentials/better_auth_secret")


PREVIOUS = {
    "admin_api_key": ("gateway/admin_api_key", "ADMIN_API_KEY_PREVIOUS"),
    "better_auth_secret": ("credentials/better_auth_secret", "BETTER_AUTH_SECRET_PREVIOUS"),
}
"""Secrets of which several are valid at a time: the file, and the setting with earlier ones."""


SIGNING = "POSTHOG_SIGNING_SECRET"
IN_SETTINGS = (
    "posthog_webhook_secret",
    "posthog_signing_secret",
    "admin_read_api_key",
    "ingest_api_key",
)
"""Not in files of their own: settings, each of which may be unset."""


def let_containers_read(deploy: Path) -> None:
    """Let other users read what containers mount and no secret is in, whatever the umask was.

    Containers run as other users than the one who checked this out.
    """
    mounted = [deploy / "nats", deploy / "grafana", deploy / "tls"]
    inside = [path for directory in mounted[:2] for path in directory.rglob("*")]
    for path in (*mounted, *inside):
        wanted = 0o555 if path.is_dir() else 0o444
        if path.exists() and path.stat().st_mode & wanted != wanted:
            path.chmod(path.stat().st_mode & 0o777 | wanted)


def rotatable() -> dict[str, str]:
    """Every secret that can be changed by its name, and its file."""
    users = (*SERVICES, *OTHERS, *DEPRECATED)
    return {
        **{name: file for name, (file, _) in PREVIOUS.items()},
        **{f"nats/{user}": f"{user}/nats_password" for user in users},
        "nats/route": "nats/route_password",
        "postgres/postgres": "postgres/password",
        **{f"postgres/{service}": f"postgres/{service}_password" for service in WITH_DATABASE},
    }


def prepare(directory: Directory, settings: SettingsFiles, name: str) -> None:
    """Accept the next secret everywhere, before anything is sealed with it."""
    file, setting = PREVIOUS[name]
    upcoming = directory.take(f"{file}.next") or new_word()
    directory.replace(f"{file}.next", f"{upcoming}\n")
    settings.add(setting, upcoming)


def rotate(directory: Directory, settings: SettingsFiles, name: str) -> None:
    """Change a secret; where two can be accepted at a time, the one before stays valid."""
    if name in IN_SETTINGS:
        setting = name.upper()
        known = settings.value(setting)
        if known is None:
            sys.exit(f"{setting} is not set in .env or keys.env; see docs/rotation.md")
        settings.add(f"{setting}_PREVIOUS", known)
        settings.replace(setting, new_key() if setting == SIGNING else new_word())
        return
    file = rotatable()[name]
    if name not in PREVIOUS:
        directory.replace(file, f"{new_word()}\n")
        return
    _, setting = PREVIOUS[name]
    before, after = directory.take(file), directory.take(f"{file}.next") or new_word()
    # First: ended in between, this has made both valid.
    if before:
        settings.add(setting, before)
    directory.replace(file, f"{after}\n")
    settings.remove(setting, after)
    directory.remove(f"{file}.next")


def main() -> int:
    """Run the command."""
    names, two = sorted([*rotatable(), *IN_SETTINGS]), sorted(PREVIOUS)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--nats", action="append", metavar="HOST", help="a NATS server's host name")
    parser.add_argument("--postgres", default="postgres", metavar="HOST")
    parser.add_argument(
        "--published", default="127.0.0.1:4222", metavar="HOST:PORT", help="NATS from outside"
    )
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--rotate", choices=names, metavar="NAME", help=f"one of {', '.join(names)}"
    )
    change.add_argument(
        "--prepare", choices=two, metavar="NAME", help="accept the next one before it is rotated"
    )
    change.add_argument(
        "--retire",
        choices=[*two, *IN_SETTINGS],
        metavar="NAME",
        help="accept earlier ones no longer",
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
    make(
        directory,
        nats=chosen.nats or ["nats", "nats-2", "nats-3"],
        postgres=chosen.postgres,
        published=chosen.published,
    )
    if is_default:
        let_containers_read(DEFAULT.parent)
    if is_default and not env_file.exists():
        # compose.yaml reads it, and Compose refuses to start without it.
        env_file.touch(mode=0o600)
    said = [f"{file} changed" for file in dict.fromkeys(settings.written)]
    if directory.written:
        said.append(f"{len(directory.written)} files written to {chosen.directory}")
    print("\n".join(said) or f"everything is there already, in {chosen.directory}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

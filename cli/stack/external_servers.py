"""Checks the NATS and PostgreSQL servers that `hogsend up` uses but does not start."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from nats.errors import NoRespondersError

from cli.errors import CommandError
from cli.stack.environment import SERVICE_SETTINGS
from hogsend.contract.errors import Forbidden
from hogsend.contract.users import User
from hogsend.service.broker import service_link
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.settings.shared import BusSettings
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.server_version import version_problem

REACH_SECONDS = 3.0
"""Timeout of each check: a running server replies at once."""
NATS_PORT = 4222

_VERSION = re.compile(rb'"version":\s*"([0-9A-Za-z.+-]{1,40})"')
_PERMANENT = re.compile(r"^SSL|^NoTls|authorization|authentication", re.IGNORECASE)
"""Connection errors that no retry would fix."""

_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""SSLRequest, which may start a connection in PostgreSQL's protocol (section 54.7)."""
_SSL_REPLIES = frozenset({b"S", b"N"})

Address = tuple[str, int]


async def require_nats(url: str) -> None:
    """Check that a NATS server of a supported version responds at an address of `NATS_URL`.

    Raises:
        CommandError: nothing responds, or another kind of server, or a server is too old.
    """
    urls = [one.strip() for one in url.split(",")]
    parts = [urlsplit(one if "://" in one else f"nats://{one}") for one in urls]
    addresses = [(part.hostname or "localhost", part.port or NATS_PORT) for part in parts]
    await _require_reachable("NATS", "NATS_URL", addresses)
    greetings = await asyncio.gather(*map(_greeting, addresses))
    is_nats = any(greeting.startswith(b"INFO ") for greeting in greetings)
    # Over a WebSocket the server sends nothing before the client does.
    if not is_nats and not any(part.scheme in {"ws", "wss"} for part in parts):
        raise _wrong_server("NATS", "NATS_URL", addresses)
    for greeting in greetings:
        if problem := version_problem(_version(greeting)):
            raise CommandError(
                f"{problem}, and a server in NATS_URL is",
                "upgrade that server, or unset NATS_URL to let `hogsend up` start one",
            )


async def require_nats_access(settings: BusSettings) -> None:
    """Check that the services can log in over TLS if it is set, and that JetStream replies.

    Raises:
        CommandError: every server refuses a service permanently, or JetStream is not enabled.
    """
    users = [User(service) for service in SERVICE_SETTINGS]
    refusals = await asyncio.gather(*(_refusal(user, settings) for user in users))
    for user, refusal in zip(users, refusals, strict=True):
        if refusal is not None:
            raise CommandError(
                f"the server in NATS_URL refuses the {user} service: {refusal}",
                "correct NATS_URL, NATS_USER, NATS_PASSWORD or NATS_TLS_CA, or unset NATS_URL to "
                "let `hogsend up` start a server",
            )


async def _refusal(user: User, settings: BusSettings) -> str | None:
    """Return why NATS refuses a service; None if it does not, or if that is unknown."""
    refusals: list[str] = []

    def observe(event: str, detail: str) -> None:
        if event == "error" and _PERMANENT.search(detail):
            refusals.append(detail.partition(": ")[2])

    connection = service_link(user, settings, observe)
    try:
        # Continues after a refusal, because the next of several servers may accept the service.
        async with asyncio.timeout(REACH_SECONDS):
            await connection.open()
            await _require_jetstream(connection)
    except (TimeoutError, *UNREACHABLE):
        return refusals[-1] if refusals else None
    finally:
        await connection.close()
    return None


async def _require_jetstream(connection: Connection) -> None:
    try:
        await connection.request_raw("$JS.API.INFO", b"", seconds=REACH_SECONDS)
    except NoRespondersError as error:
        raise CommandError(
            "the NATS server in NATS_URL has JetStream disabled",
            "start it with --jetstream, or unset NATS_URL to let `hogsend up` start one",
        ) from error
    except Forbidden:
        # This user may not send that request, so JetStream may well be enabled.
        return


async def require_postgres(url: str) -> None:
    """Check that PostgreSQL responds at one of the hosts of `DATABASE_URL`.

    Raises:
        CommandError: nothing responds, or another kind of server.
    """
    addresses = PostgresAddress.parse(url).hosts
    await _require_reachable("PostgreSQL", "DATABASE_URL", addresses)
    replies = await asyncio.gather(*map(_ssl_reply, addresses))
    if not any(reply in _SSL_REPLIES for reply in replies):
        raise _wrong_server("PostgreSQL", "DATABASE_URL", addresses)


async def _require_reachable(server: str, setting: str, addresses: Sequence[Address]) -> None:
    if any(await asyncio.gather(*map(_is_reachable, addresses))):
        return
    raise CommandError(
        f"no {server} listens at {_joined(addresses)}, the address in {setting}",
        f"start that server, correct {setting}, or unset it to let `hogsend up` start one",
    )


def _wrong_server(server: str, setting: str, addresses: Sequence[Address]) -> CommandError:
    return CommandError(
        f"the server at {_joined(addresses)} does not respond as {server} does",
        f"correct {setting}, or unset it to let `hogsend up` start a server",
    )


def _joined(addresses: Sequence[Address]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in addresses)


async def _greeting(address: Address) -> bytes:
    """Return the line that a NATS server sends first on every connection; empty if none arrives."""
    return await _exchange(address, b"", lambda reader: reader.readline())


def _version(greeting: bytes) -> str:
    version = _VERSION.search(greeting)
    return version[1].decode() if version else ""


async def _ssl_reply(address: Address) -> bytes:
    """Return the one byte that PostgreSQL and its poolers reply to an SSLRequest."""
    return await _exchange(address, _SSL_REQUEST, lambda reader: reader.read(1))


async def _exchange(
    address: Address, request: bytes, read: Callable[[asyncio.StreamReader], Awaitable[bytes]]
) -> bytes:
    """Send a request on a new connection, and return the reply; empty if none arrives in time."""
    try:
        async with asyncio.timeout(REACH_SECONDS):
            reader, writer = await _open(address)
            try:
                writer.write(request)
                return await read(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return b""


async def _open(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address
    if host.startswith("/"):
        return await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}"))
    return await asyncio.open_connection(host, port)


async def _is_reachable(address: Address) -> bool:
    try:
        async with asyncio.timeout(REACH_SECONDS):
            _, writer = await _open(address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True

"""Servers that `hogsend up` does not start: whether anything answers where a setting says."""

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
"""Longest wait for an answer: a server that is there answers at once."""
NATS_PORT = 4222

_VERSION = re.compile(rb'"version":\s*"([0-9A-Za-z.+-]{1,40})"')
_FOR_GOOD = re.compile(r"^SSL|^NoTls|authorization|authentication", re.IGNORECASE)

_ASK_FOR_TLS = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""SSLRequest of PostgreSQL's protocol, with which a connection may begin (section 54.7)."""
_OFFERS = frozenset({b"S", b"N"})

Place = tuple[str, int]


async def require_nats(url: str) -> None:
    """Check that something answers at one of the addresses of `NATS_URL`.

    Raises:
        CommandError: nothing does, something else than NATS, or a server that is too old.
    """
    addresses = [address.strip() for address in url.split(",")]
    parts = [urlsplit(one if "://" in one else f"nats://{one}") for one in addresses]
    places = [(part.hostname or "localhost", part.port or NATS_PORT) for part in parts]
    await _require("NATS", "NATS_URL", places)
    greetings = await asyncio.gather(*map(_greeting, places))
    speaks = [greeting.startswith(b"INFO ") for greeting in greetings]
    # Over a WebSocket the server waits for the client to begin.
    if not any(speaks) and not any(part.scheme in {"ws", "wss"} for part in parts):
        raise _another("NATS", "NATS_URL", places)
    for greeting in greetings:
        if problem := version_problem(_version(greeting)):
            raise CommandError(
                f"{problem}, and NATS_URL names one",
                "upgrade that server, or unset NATS_URL to let `hogsend up` start one",
            )


async def require_nats_access(settings: BusSettings) -> None:
    """Check that services are let in, user and TLS, and find JetStream there.

    Raises:
        CommandError: a service is refused for good by every server, or no JetStream answers.
    """
    users = [User(service) for service in SERVICE_SETTINGS]
    refusals = await asyncio.gather(*(_refusal(user, settings) for user in users))
    for user, refusal in zip(users, refusals, strict=True):
        if refusal is not None:
            raise CommandError(
                f"the server in NATS_URL does not let the {user} service in: {refusal}",
                "correct NATS_URL, NATS_USER, NATS_PASSWORD or NATS_TLS_CA, or unset NATS_URL to "
                "let `hogsend up` start a server",
            )


async def _refusal(user: User, settings: BusSettings) -> str | None:
    """Why a service is not let in; None where it is, or where that is not known."""
    said: list[str] = []

    def observe(what: str, detail: str) -> None:
        if what == "error" and _FOR_GOOD.search(detail):
            said.append(detail.partition(": ")[2])

    link = service_link(user, settings, observe)
    try:
        # Also after a refusal: of several servers the next one may take it.
        async with asyncio.timeout(REACH_SECONDS):
            await link.open()
            await _require_jetstream(link)
    except (TimeoutError, *UNREACHABLE):
        return said[-1] if said else None
    finally:
        await link.close()
    return None


async def _require_jetstream(link: Connection) -> None:
    try:
        await link.request_raw("$JS.API.INFO", b"", seconds=REACH_SECONDS)
    except NoRespondersError as error:
        raise CommandError(
            "the NATS server in NATS_URL has no JetStream",
            "start it with --jetstream, or unset NATS_URL to let `hogsend up` start one",
        ) from error
    except Forbidden:
        # This user may not ask that, and need not.
        return


async def require_postgres(url: str) -> None:
    """Check that something answers at one of the hosts of `DATABASE_URL`.

    Raises:
        CommandError: nothing does, or something else than PostgreSQL.
    """
    places = PostgresAddress.parse(url).hosts
    await _require("PostgreSQL", "DATABASE_URL", places)
    if not any(said in _OFFERS for said in await asyncio.gather(*map(_offers_tls, places))):
        raise _another("PostgreSQL", "DATABASE_URL", places)


async def _require(server: str, setting: str, places: Sequence[Place]) -> None:
    answers = await asyncio.gather(*map(_answers, places))
    if any(answers):
        return
    raise CommandError(
        f"no {server} answers at {_named(places)}, where {setting} says it is",
        f"start that server, correct {setting}, or unset it to let `hogsend up` start one",
    )


def _another(server: str, setting: str, places: Sequence[Place]) -> CommandError:
    return CommandError(
        f"what listens at {_named(places)} does not answer as {server} does",
        f"correct {setting}, or unset it to let `hogsend up` start one",
    )


def _named(places: Sequence[Place]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in places)


async def _greeting(place: Place) -> bytes:
    """What a server begins every connection with, as NATS does; empty for nothing."""
    return await _said(place, b"", lambda reader: reader.readline())


def _version(greeting: bytes) -> str:
    found = _VERSION.search(greeting)
    return found[1].decode() if found else ""


async def _offers_tls(place: Place) -> bytes:
    """The one byte that PostgreSQL and its poolers answer to whether they speak TLS."""
    return await _said(place, _ASK_FOR_TLS, lambda reader: reader.read(1))


async def _said(
    place: Place, sent: bytes, hear: Callable[[asyncio.StreamReader], Awaitable[bytes]]
) -> bytes:
    try:
        async with asyncio.timeout(REACH_SECONDS):
            reader, writer = await _open(place)
            try:
                writer.write(sent)
                return await hear(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return b""


async def _open(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = place
    if host.startswith("/"):
        return await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}"))
    return await asyncio.open_connection(host, port)


async def _answers(place: Place) -> bool:
    try:
        async with asyncio.timeout(REACH_SECONDS):
            _, writer = await _open(place)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True

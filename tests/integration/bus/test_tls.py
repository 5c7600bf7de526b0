"""TLS to NATS and PostgreSQL: certificates are verified, and required TLS is never skipped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

import hogsend
from cli.stack import nats as nats_server
from hogsend.contract.users import User
from hogsend.service.broker import service_broker
from hogsend.service.database import Database
from hogsend.service.migrations import migrate
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.settings.shared import BusSettings
from hogsend.transport.connection import Connection
from services.credentials.app import MIGRATIONS
from tests.pki import Pki, make_pki
from tests.ports import free_port
from tests.servers import Servers, _password
from tests.waiting import PATIENCE_SECONDS, eventually


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "pki")


@dataclass(frozen=True)
class NatsWithTls:
    """A NATS server that requires TLS."""

    port: int
    log: Path

    def refused(self) -> int:
        """Return the number of failed handshakes."""
        return self.log.read_text().count("TLS handshake error")


@asynccontextmanager
async def nats_with_tls(
    pki: Pki, directory: Path, *, verify: bool = False
) -> AsyncIterator[NatsWithTls]:
    """Run a server that requires TLS, and with `verify` also client certificates."""
    port, config = free_port(), directory / "nats.conf"
    passwords = {user: _password(user) for user in User}
    nats_server.write_config(config, port=port, store=directory / "js", passwords=passwords)
    tls = {"cert_file": str(pki.certificate), "key_file": str(pki.key), "timeout": 10}
    if verify:
        tls |= {"ca_file": str(pki.ca), "verify": True}
    config.write_text(json.dumps({**json.loads(config.read_text()), "tls": tls}))
    server = NatsWithTls(port, directory / "log")
    with (
        server.log.open("wb") as log,
        subprocess.Popen(nats_server.command(config), stderr=log) as process,  # noqa: ASYNC220
    ):
        try:
            await eventually(lambda: _listens(port))
            yield server
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def settings(port: int, **more: str | Path) -> BusSettings:
    return BusSettings.model_validate(
        {
            "nats_url": f"nats://127.0.0.1:{port}",
            "nats_password": _password(User.INGEST),
            **more,
        }
    )


def link(settings: BusSettings) -> Connection:
    return service_broker(User.INGEST, settings).link


async def is_connected(bus: Connection) -> bool:
    try:
        await asyncio.wait_for(bus.open(), PATIENCE_SECONDS)
        await bus.flush()
    finally:
        await bus.close()
    return True


async def is_refused_repeatedly(bus: Connection, refused: Callable[[], int]) -> bool:
    """Return whether the connection is refused, retries, and is refused again."""
    before, opening = refused(), asyncio.create_task(bus.open())
    try:
        await eventually(lambda: opening.done() or refused() >= before + 2)
        return not opening.done()
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await bus.close()


async def test_a_service_connects_to_nats_over_tls(pki: Pki, tmp_path: Path) -> None:
    async with nats_with_tls(pki, tmp_path) as server:
        assert await is_connected(link(settings(server.port, nats_tls_ca=pki.ca)))


async def test_a_server_with_an_untrusted_certificate_is_refused(pki: Pki, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other")
    async with nats_with_tls(pki, tmp_path) as server:
        stranger = link(settings(server.port, nats_tls_ca=other.ca))
        assert await is_refused_repeatedly(stranger, server.refused)
        # The system's authorities do not vouch for it either.
        bare = link(settings(server.port, nats_url=f"tls://127.0.0.1:{server.port}"))
        assert await is_refused_repeatedly(bare, server.refused)


async def test_a_client_certificate_is_sent_to_a_server_that_requires_one(
    pki: Pki, tmp_path: Path
) -> None:
    async with nats_with_tls(pki, tmp_path, verify=True) as server:
        own = {"nats_tls_cert": pki.certificate, "nats_tls_key": pki.key}
        assert await is_connected(link(settings(server.port, nats_tls_ca=pki.ca, **own)))
        assert await is_refused_repeatedly(
            link(settings(server.port, nats_tls_ca=pki.ca)), server.refused
        )


async def test_an_external_service_connects_with_the_certificate_authority_alone(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_TLS_CA", str(pki.ca))
    async with nats_with_tls(pki, tmp_path) as server:
        url = nats_server.url(User.SUBSCRIBER, _password(User.SUBSCRIBER), server.port)
        async with hogsend.connect(url) as bus:
            assert bus.connection.connected


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_no_password_is_sent_to_a_server_without_tls(
    scheme: str, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca))
    received: list[bytes] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.11.0", "max_payload": 1024, "auth_required": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        received.append(await reader.read(4096))
        writer.close()

    impostor = await asyncio.start_server(respond, "127.0.0.1", 0)
    port = impostor.sockets[0].getsockname()[1]
    async with impostor:
        ca = pki.ca if scheme == "nats" else None
        bus = link(
            settings(
                port,
                nats_url=f"{scheme}://127.0.0.1:{port}",
                **({"nats_tls_ca": ca} if ca else {}),
            ),
        )
        assert await is_refused_repeatedly(bus, lambda: len(received))
    assert set(received) == {b""}


SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@contextlib.contextmanager
def postgres_on_tcp(url: str, pki: Pki | None) -> Iterator[int]:
    """Run PostgreSQL with TLS only; without a PKI, without TLS.

    The embedded build has no TLS and listens on a Unix socket, on which clients never request TLS.
    A proxy in front of it terminates TLS.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if pki is not None:
        context.load_cert_chain(pki.certificate, pki.key)

    class Session(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client, first = self.request, self.request.recv(8)
            if first == SSL_REQUEST:
                client.sendall(b"N" if pki is None else b"S")
                first = b""
            elif pki is not None:
                return
            with contextlib.suppress(OSError), connected(url) as server:
                if pki is not None:
                    client = context.wrap_socket(client, server_side=True)
                server.sendall(first)
                threading.Thread(target=pump, args=(server, client), daemon=True).start()
                pump(client, server)

    def connected(url: str) -> socket.socket:
        parts = urlsplit(url)
        if parts.hostname and parts.port:
            return socket.create_connection((parts.hostname, parts.port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432")
        return server

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy.server_address[1]
        proxy.shutdown()


@pytest.fixture
def tls_only(pki: Pki, servers: Servers, database_url: str) -> Iterator[str]:
    """Address of a PostgreSQL that requires TLS; the address does not mention TLS."""
    with postgres_on_tcp(database_url, pki) as port:
        yield _address(database_url, port)


@pytest.fixture
def without_tls(servers: Servers, database_url: str) -> Iterator[str]:
    """Address of a PostgreSQL without TLS; the address does not mention TLS."""
    with postgres_on_tcp(database_url, None) as port:
        yield _address(database_url, port)


@pytest.mark.parametrize("query", ["", "?sslmode=prefer", "?sslmode=require"])
async def test_postgresql_that_requires_tls_is_migrated_and_queried(
    tls_only: str, query: str
) -> None:
    await _is_migrated_and_queried(f"{tls_only}{query}")


@pytest.mark.parametrize("query", ["", "?sslmode=prefer", "?sslmode=disable"])
async def test_postgresql_without_tls_is_migrated_and_queried(without_tls: str, query: str) -> None:
    await _is_migrated_and_queried(f"{without_tls}{query}")


async def test_the_certificate_of_postgresql_is_verified_with_verify_full(
    tls_only: str, pki: Pki, tmp_path: Path
) -> None:
    other = make_pki(tmp_path / "other")
    await _is_migrated_and_queried(f"{tls_only}?sslmode=verify-full&sslrootcert={pki.ca}")
    impostor = f"{tls_only}?sslmode=verify-full&sslrootcert={other.ca}"
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await migrate(PostgresAddress.parse(impostor), "credentials", MIGRATIONS)


async def test_the_ssl_mode_of_the_environment_applies_to_migrations(
    without_tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        await migrate(PostgresAddress.parse(without_tls), "credentials", MIGRATIONS)


async def _is_migrated_and_queried(url: str) -> None:
    database = Database(url, "credentials", MIGRATIONS, pool_size=2)
    await asyncio.wait_for(database.connect(), PATIENCE_SECONDS)
    async with database.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM provider_credentials") == 0
    await database.close()


def _address(url: str, port: int) -> str:
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0] or "postgres"
    return f"postgresql://{user}@127.0.0.1:{port}{parts.path}"

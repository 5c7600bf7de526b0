"""TLS to NATS, as a client: whom to trust, and no clear text once TLS is asked for."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import nats.errors

from hogsend.transport.nats_client import NatsClient


class NoTls(nats.errors.Error):
    """The server offers no TLS although it was asked for; nothing was sent to it."""

    def __str__(self) -> str:
        """Say so."""
        return "TLS is configured but this NATS server does not offer it; no password was sent"


def client_context(
    ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Make a context that verifies the server's name, by `ca` or else the system's authorities.

    Args:
        ca: PEM file of the authority that signed the server's certificate.
        certificate: PEM file with the certificate to show, when the server asks for one.
        key: its key, when that is a file of its own.

    Raises:
        OSError: a file cannot be read, or holds no certificate (`ssl.SSLError`).
    """
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


class TlsClient(NatsClient):
    """nats-py's client, which refuses a server without TLS before it sends the password.

    Left to itself nats-py encrypts only if the server says so, whatever the URL's scheme: whoever
    can answer in the server's place would be given the password. And it waits without end for a
    connection to close of which asyncio tells nobody: the one whose handshake failed. A certificate
    that was put right would help no service that had started before.
    """

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except Exception:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
            # The next attempt makes one of its own.
            self._transport = None
            raise

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not info.get("tls_required"):
            raise NoTls
        await super()._process_info(info, initial_connection)

"""TLS to NATS, as a client: whom to trust, and no clear text once TLS is asked for."""

from __future__ import annotations

import os
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
        # Without a password it would be asked for at the terminal.
        context.load_cert_chain(certificate, key, password="")
    return context


def check_authority(ca: Path) -> None:
    """Check that a file holds the certificate of an authority.

    Raises:
        ValueError: it does not; says what to write.
    """
    _check_readable(ca)
    try:
        client_context(ca)
    except OSError:
        raise ValueError(
            "what it names holds no certificate in PEM format; write the file of the authority "
            "that signed NATS' certificate"
        ) from None


def check_certificate(certificate: Path) -> None:
    """Check that a file may hold a certificate to show; its key is looked at with it.

    Raises:
        ValueError: it cannot be read; says what to write.
    """
    _check_readable(certificate)


def check_key(key: Path | None, certificate: Path | None) -> None:
    """Check that a key belongs to a certificate to show.

    Raises:
        ValueError: it does not, or one is missing; says what to write.
    """
    if certificate is None:
        if key is not None:
            raise ValueError("it is of no use without a certificate; set NATS_TLS_CERT, too")
        return
    if key is not None:
        _check_readable(key)
    try:
        client_context(None, certificate, key)
    except OSError:
        # OpenSSL's words are about its own functions.
        raise ValueError(
            "it is unset, and NATS_TLS_CERT names no PEM file with a certificate and its key, "
            "without a password; correct one"
            if key is None
            else "it is not the key of the certificate in NATS_TLS_CERT; write files in PEM "
            "format, a key without a password"
        ) from None


def _check_readable(file: Path) -> None:
    if not (file.is_file() and os.access(file, os.R_OK)):
        raise ValueError("it is not a file that can be read here; write its full path")


class TlsClient(NatsClient):
    """nats-py's client, which refuses a server without TLS before it sends the password.

    Left to itself nats-py encrypts only if the server says so, whatever the URL's scheme: an
    attacker who can answer in the server's place would be given the password. And it waits without
    end for a connection to close whose handshake failed, since asyncio does not tell of that. A
    certificate that was put right would help no service that had started before.
    """

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except BaseException:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
            # The next attempt makes one of its own.
            self._transport = None
            raise

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not info.get("tls_required"):
            raise NoTls
        await super()._process_info(info, initial_connection)

"""TLS to NATS, as a client: trusted authorities, and no connection in clear text."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import nats.errors

from hogsend.transport.nats_client import NatsClient


class NoTls(nats.errors.Error):
    """The server does not offer TLS although it is required; nothing was sent to it."""

    def __str__(self) -> str:
        """Return the text for logs and users."""
        return "TLS is configured but this NATS server does not offer it; no password was sent"


def client_context(
    ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Return a context that verifies the server's certificate and host name.

    Args:
        ca: PEM file of the authority that signed the server's certificate; the system's authorities
            by default.
        certificate: PEM file with the client certificate, for a server that requires one.
        key: PEM file with the certificate's key, if that is not in the same file.

    Raises:
        OSError: a file cannot be read, or contains no certificate (`ssl.SSLError`).
    """
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        # Without this argument, OpenSSL prompts for a password on the terminal.
        context.load_cert_chain(certificate, key, password="")
    return context


def check_authority(ca: Path) -> None:
    """Check that a file contains the certificate of an authority.

    Raises:
        ValueError: it does not; the text explains the fix.
    """
    _check_readable(ca)
    try:
        client_context(ca)
    except OSError:
        raise ValueError(
            "it contains no certificate in PEM format; write the file of the authority "
            "that signed NATS' certificate"
        ) from None


def check_certificate(certificate: Path) -> None:
    """Check that the file of a client certificate can be read; `check_key` checks its content.

    Raises:
        ValueError: it cannot be read; the text explains the fix.
    """
    _check_readable(certificate)


def check_key(key: Path | None, certificate: Path | None) -> None:
    """Check that a key belongs to a client certificate.

    Raises:
        ValueError: it does not, or one is missing; the text explains the fix.
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
        # The text of OpenSSL's error names its own functions, and does not help.
        raise ValueError(
            "it is unset, and NATS_TLS_CERT names no PEM file with a certificate and its key, "
            "without a password; correct one"
            if key is None
            else "it is not the key of the certificate in NATS_TLS_CERT; write files in PEM "
            "format, a key without a password"
        ) from None


def is_readable_file(path: Path) -> bool:
    """Whether this process can read the file; False also for a path that cannot be looked up.

    `Path.is_file` alone raises an `OSError` for a path that is too long, or that is below a
    directory which this user may not enter.
    """
    return os.access(path, os.R_OK) and path.is_file()


def _check_readable(file: Path) -> None:
    if not is_readable_file(file):
        raise ValueError("it is not a file that can be read here; write its full path")


class TlsClient(NatsClient):
    """nats-py's client, which refuses a server without TLS before it sends the password.

    Whatever the URL's scheme, nats-py encrypts only if the server offers it: an attacker who
    responds in the server's place would receive the password.

    After a failed handshake, nats-py waits without end for the connection to close, as asyncio does
    not report that. Services that had started before a certificate was repaired would not recover.
    """

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except BaseException:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
            # The next attempt creates its own transport.
            self._transport = None
            raise

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not info.get("tls_required"):
            raise NoTls
        await super()._process_info(info, initial_connection)

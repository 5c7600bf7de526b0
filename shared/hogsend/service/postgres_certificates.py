"""Checks the certificate files that a PostgreSQL address names, before anything connects.

asyncpg reads the files at each attempt to connect, and reports a missing file with the same error
as a server that is down. Without this check a service would retry without end.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from hogsend.transport.tls import is_readable_file

_FILES = ("sslrootcert", "sslcrl", "sslcert", "sslkey")
_TO_VERIFY = frozenset({"sslrootcert", "sslcrl"})
_VERIFYING = frozenset({"verify-ca", "verify-full"})
_NEVER_VERIFYING = frozenset({"allow", "prefer"})


def check_certificates(parameters: Mapping[str, str]) -> None:
    """Load the files that the parameters of an address, or else `PGSSL*` variables, name.

    The variables are used as libpq uses them.

    Raises:
        ValueError: a file is missing, cannot be read or has another format. The message names the
            parameter or variable.
    """
    mode = parameters.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
    if mode == "disable":
        return
    named = dict(_named(parameters, verifying=mode not in _NEVER_VERIFYING))
    for file, label in named.values():
        if not is_readable_file(Path(file)):
            raise ValueError(f"{label} is not a file that can be read here; write its full path")
    if "sslrootcert" not in named and mode in _VERIFYING and not is_readable_file(_default_root()):
        raise ValueError(
            f"sslmode={mode} needs the certificate of the authority that signed the server's: add "
            "sslrootcert=/path/to/ca.pem"
        )
    for name in ("sslrootcert", "sslcrl"):
        if name in named:
            file, label = named[name]
            _load(label, partial(ssl.SSLContext.load_verify_locations, cafile=file))
    if "sslcert" in named:
        certificate, key = named["sslcert"][0], named.get("sslkey", (None, ""))[0]
        # Without a password OpenSSL would prompt for one at the terminal.
        _load(
            "its sslcert and sslkey",
            partial(ssl.SSLContext.load_cert_chain, certfile=certificate, keyfile=key, password=""),
        )


def _named(
    parameters: Mapping[str, str], *, verifying: bool
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Return each parameter with its file and the label that error messages use for it."""
    for name in _FILES:
        variable = f"PG{name.upper()}"
        if name in parameters:
            yield name, (parameters[name], f"its {name}")
        elif (file := os.environ.get(variable)) and (verifying or name not in _TO_VERIFY):
            yield name, (file, f"the file in {variable}")


def _default_root() -> Path:
    """The default root certificate file of libpq and asyncpg."""
    try:
        return Path.home() / ".postgresql" / "root.crt"
    except (RuntimeError, KeyError):
        # The user has no home directory.
        return Path(os.devnull)


def _load(label: str, load: Callable[[ssl.SSLContext], None]) -> None:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ValueError):
        # OpenSSL's message names its own functions, which helps no operator.
        raise ValueError(
            f"{label} cannot be used; write files in PEM format, a key without a password"
        ) from None

"""The URL of the Hogsend server to use, and its admin key (contract 8.1)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cli import environment
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from hogsend.urls import is_absolute_url, is_loopback, reached_at

DEFAULT_PORT = "3002"
DEFAULT_URL = f"http://localhost:{DEFAULT_PORT}"


@dataclass(frozen=True)
class ServerAddress:
    """A Hogsend server and its admin key. `repr` leaves out the key, so no traceback shows it."""

    base_url: str
    admin_key: str | None = field(repr=False)

    @property
    def is_plaintext(self) -> bool:
        """Whether requests would cross the network unencrypted."""
        return self.base_url.lower().startswith("http:") and not is_loopback(self.base_url)


def resolve(url: str | None, admin_key: str | None) -> ServerAddress:
    """Look up server and key in flags, environment and `./.env`, in this order.

    The default is the server that `hogsend up` runs on this machine: at GATEWAY_HOST and
    GATEWAY_PORT, with the key generated in HOGSEND_HOME. A generated key is sent to loopback
    addresses only.

    Raises:
        CommandError: the URL or the key is invalid.
    """
    base = (url or environment.first("HOGSEND_API_URL") or local_gateway_url()).rstrip("/")
    try:
        parts = urlsplit(base)
        has_user = parts.username is not None or parts.password is not None
    except ValueError:
        parts, has_user = urlsplit(""), False
    if has_user:
        # httpx would send it as a second Authorization header, and the URL is printed.
        raise CommandError(
            "the URL of the Hogsend server must not contain a user or password",
            "pass the admin key as HOGSEND_ADMIN_KEY",
            exit_code=ExitCode.USAGE,
        )
    if parts.scheme.lower() not in {"http", "https"} or not is_absolute_url(base):
        raise invalid_address(base)
    key = admin_key or environment.first("HOGSEND_ADMIN_KEY", "ADMIN_API_KEY")
    key = key.strip() if key else None
    if key and not (key.isascii() and key.isprintable()):
        raise CommandError(
            "the admin key contains a control character, such as a line break, or a non-ASCII one",
            "copy the key again, without line breaks",
            exit_code=ExitCode.USAGE,
        )
    address = ServerAddress(base, key or None)
    generated = _generated_key(address)
    if address.admin_key is None and generated is not None and _is_local_stack(address):
        return ServerAddress(base, generated.read_text().strip() or None)
    return address


def invalid_address(url: str) -> CommandError:
    """Return the error for a URL that cannot be a Hogsend server's."""
    return CommandError(
        f"{url} is not the URL of a Hogsend server",
        f"pass the URL as --url or HOGSEND_API_URL, for example {DEFAULT_URL}",
        exit_code=ExitCode.USAGE,
    )


def admin_key_hint(address: ServerAddress) -> str:
    """Return how to pass the admin key: from the file of `hogsend up` if it exists."""
    if generated := _generated_key(address):
        key = f'HOGSEND_ADMIN_KEY="$(cat {shlex.quote(str(generated))})"'
        return f"for the stack of `hogsend up`: `export {key}`"
    hint = "pass --admin-key, or set HOGSEND_ADMIN_KEY to the server's ADMIN_API_KEY"
    if address.admin_key is None and is_loopback(address.base_url):
        hint += "; for the stack of `hogsend up`, run the command in its directory"
    return hint


def local_gateway_url() -> str:
    """Return the URL of the gateway that `hogsend up` runs on this machine."""
    host = (environment.first("GATEWAY_HOST") or "").strip()
    port = (environment.first("GATEWAY_PORT") or "").strip()
    # `hogsend up` reports an invalid host or port.
    valid_port = port if port.isdecimal() else DEFAULT_PORT
    url = f"http://{reached_at(host, valid_port)}" if host else f"http://localhost:{valid_port}"
    return url if is_absolute_url(url) else f"http://localhost:{valid_port}"


def _generated_key(address: ServerAddress) -> Path | None:
    """Return the file with the key that `hogsend up` generated; None for a remote server."""
    generated = environment.hogsend_home() / "secrets" / "admin-api-key"
    return generated if is_loopback(address.base_url) and generated.is_file() else None


def _is_local_stack(address: ServerAddress) -> bool:
    """Whether the port is the local stack's; another program must not receive its key."""
    return urlsplit(address.base_url).port == urlsplit(local_gateway_url()).port

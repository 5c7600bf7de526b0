"""Types of settings, with the checks of their values.

Every error message states the problem and what to write. It quotes no part of the value, which may
be a secret or contain one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.webhooks import WEBHOOK_PATH
from hogsend.posthog.hosts import check_host
from hogsend.posthog.signing import key_of
from hogsend.service.postgres_address import PostgresAddress
from hogsend.service.postgres_certificates import check_certificates
from hogsend.transport.addresses import check_commas
from hogsend.urls import literal_address

_MAX_PORT = 65535

T = TypeVar("T")

_PLACEHOLDER = re.compile(r"\$\{.*\}|\$\(.*\)|\$[A-Z][A-Z0-9_]*|<[^<>]*>|\{\{.*\}\}", re.DOTALL)


def check_written(text: str) -> None:
    """Check that a value is not in quotes, and is not a placeholder that was not replaced.

    Raises:
        ValueError: the value is in quotes, or is a placeholder.
    """
    if text[:1] in {'"', "'"} and text.endswith(text[:1]):
        # A shell removes quotes, but an env file for containers does not.
        raise ValueError("it is in quotes, which would be a part of it; remove them")
    if _PLACEHOLDER.fullmatch(text):
        raise ValueError(
            "it is the name of a variable or a placeholder that was not replaced; write its value"
        )


def _web_address(text: str) -> str:
    # Checked only, not normalized: the text is used and shown as the operator wrote it.
    example = "write for example https://host.example.com"
    parts = _parsed(text, example)
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"it does not begin with https:// or http://; {example}")
    if "@" in parts.netloc:
        raise ValueError("it has a user or a password in it; remove everything up to the @")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("it has a query or a fragment; remove everything from the ? or #")
    return text


def _public_address(text: str) -> str:
    if urlsplit(text).path.rstrip("/").endswith(WEBHOOK_PATH):
        raise ValueError(f"it contains the path of webhooks; remove {WEBHOOK_PATH}, which is added")
    return text


def _posthog_address(text: str) -> str:
    check_host(text)
    return text


def _nats_addresses(text: str) -> str:
    example = "write nats://host:4222, several separated by commas"
    addresses = [address.strip() for address in text.split(",")]
    check_commas(addresses)
    for written in addresses:
        # nats-py reads an address without a scheme as nats://.
        address = written if "://" in written else f"nats://{written}"
        user_and_password = address.partition("://")[2].rpartition("@")[0]
        if any(character in user_and_password for character in "/?#[]"):
            raise ValueError(
                "a password in it has a character that is reserved in URLs; write %2F, %3F, %23, "
                "%5B and %5D for a /, ?, #, [ and ]"
            )
        parts = _parsed(address, example)
        if parts.scheme not in {"nats", "tls", "ws", "wss"}:
            raise ValueError(f"an address begins neither with nats:// nor with tls://; {example}")
        if parts.query or parts.fragment or parts.path.strip("/"):
            raise ValueError(f"an address has more than a host and a port; {example}")
    return text


def _parsed(text: str, example: str) -> SplitResult:
    if not text or any(character <= " " or character in "\\\x7f" for character in text):
        raise ValueError(f"it has a space, a backslash or a control character; {example}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        # The error of urllib would quote the text.
        raise ValueError(f"it is not an address; {example}") from None
    if not parts.scheme or not host:
        raise ValueError(f"it is not an address with a scheme and a host; {example}")
    if not _is_host(host):
        raise ValueError(f"its host is not a host name or address; {example}")
    if port == 0:
        raise ValueError(f"its port is not 1 to {_MAX_PORT}; {example}")
    return parts


def _is_host(host: str) -> bool:
    if ":" in host:
        return literal_address(host.partition("%")[0]) is not None
    labels = host.removesuffix(".").split(".")
    return all(labels) and re.fullmatch(r"[\w.-]+", host) is not None


def _listening_host(text: str) -> str:
    if not _is_host(text):
        raise ValueError(
            "it is not a host; write an address of this machine, for example 127.0.0.1"
        )
    return text


def _port(value: object) -> object:
    if isinstance(value, str) and "://" in value:
        raise ValueError(
            "it is an address, not a port; Kubernetes sets such a variable for a Service of that "
            "name: set enableServiceLinks: false in the pod, or this variable to a number"
        )
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        # Stricter than pydantic: the command line parses the text as well, and must get the same
        # number.
        raise ValueError(f"it is not a port; write a number of 1 to {_MAX_PORT}, digits only")
    return value


def _header_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text.lower().startswith("bearer "):
        raise ValueError("it begins with the word Bearer, which is not part of the key; remove it")
    if not all(" " <= character <= "~" for character in text):
        raise ValueError(
            "it has characters that an HTTP header does not carry unchanged; use letters, digits "
            "and punctuation of ASCII, for example from `openssl rand -hex 32`"
        )
    return secret


def _project_key(secret: SecretStr) -> SecretStr:
    # Old keys of PostHog have no prefix.
    text = secret.get_secret_value()
    if re.match(r"ph[abd-z]_", text):
        raise ValueError(
            "it is a personal key, a feature flags key or a token, which must not be sent with "
            "events; write the key of the project, which begins with phc_"
        )
    if re.search(r"[\s,;#]", text):
        raise ValueError("it is more than one key; write only the key that begins with phc_")
    return secret


def _personal_key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text.startswith("phc_"):
        raise ValueError(
            "it is a project key, which cannot read anything; write a personal key, which begins "
            "with phx_"
        )
    if re.match(r"ph[rs]_", text) or re.search(r"[\s,;#]", text):
        raise ValueError("it is not a personal key; write one key, which begins with phx_")
    return secret


def _project_id(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text):
        raise ValueError(
            "it is not a project id; write the number after /project/ in the address of PostHog's "
            "pages"
        )
    return text


def _signing_secret(secret: SecretStr) -> SecretStr:
    key_of(secret.get_secret_value())
    return secret


def _postgres_address(secret: SecretStr) -> SecretStr:
    check_certificates(PostgresAddress.parse(secret.get_secret_value()).parameters)
    return secret


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _log_level(value: object) -> object:
    # The short form is common, for example in Python and Node.
    return "warning" if _lower(value) == "warn" else _lower(value)


def _expanded(path: Path) -> Path:
    if str(path).startswith("$"):
        raise ValueError("it begins with a variable that was not replaced; write the path")
    try:
        # A shell expands `~`, but not in quotes, and env files are read without a shell.
        return path.expanduser()
    except RuntimeError:
        raise ValueError("the home directory (~) is not known; write the path") from None


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(entry.strip() for entry in value.split(",") if entry.strip())


def _previous_secrets(value: object) -> object:
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return _split(value)
    try:
        secrets = msgspec.json.decode(value, type=tuple[str, ...])
    except NOT_JSON:
        # The error may quote a secret.
        raise ValueError(
            'it begins with [ and is not a JSON list of strings; write ["first","second"], '
            "also for a secret that begins with ["
        ) from None
    return tuple(secret for secret in secrets if secret.strip())


def _proxy_address(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    example = (
        "write http://proxy.example.com:3128, with user:password@ before the host if the proxy "
        "requires a login"
    )
    # curl and others read an address without a scheme as http://.
    parts = _parsed(text if "://" in text else f"http://{text}", example)
    if parts.scheme.startswith("socks"):
        raise ValueError(f"SOCKS is not supported; {example}")
    if parts.scheme not in {"http", "https"} or parts.path.strip("/") or parts.query:
        raise ValueError(f"it is not the address of a proxy; {example}")
    return secret if "://" in text else SecretStr(f"http://{text}")


Port = Annotated[int, BeforeValidator(_port), Field(ge=1, le=_MAX_PORT)]
OptionalPort = Annotated[int, BeforeValidator(_port), Field(ge=0, le=_MAX_PORT)]
ListeningHost = Annotated[str, AfterValidator(_listening_host)]
"""An IP address or name of this machine to listen on."""
Url = Annotated[str, AfterValidator(_web_address)]
PostHogUrl = Annotated[Url, AfterValidator(_posthog_address)]
"""URL of a PostHog instance."""
PublicUrl = Annotated[Url, AfterValidator(_public_address)]
"""Public URL of the gateway."""
AnyCase = Annotated[T, BeforeValidator(_lower)]
"""One of several words, in any case."""
LevelName = Annotated[T, BeforeValidator(_log_level)]
FilePath = Annotated[Path, AfterValidator(_expanded)]
"""A file or directory; `~` is the home directory."""
NatsUrl = Annotated[str, AfterValidator(_nats_addresses)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_secret)]
"""A secret that is sent in an HTTP header, such as a bearer token or a webhook secret."""
ProjectKey = Annotated[HeaderSecret, AfterValidator(_project_key)]
"""Key of a PostHog project, which may send events."""
PersonalKey = Annotated[HeaderSecret, AfterValidator(_personal_key)]
"""Key of a PostHog user, for PostHog's private API."""
ProjectId = Annotated[str, AfterValidator(_project_id)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_postgres_address)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
RetentionDays = Annotated[int, Field(ge=0, le=36_500)]
"""Number of days after which rows are deleted; 0 keeps them without limit."""
ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy_address)]
"""URL of an HTTP proxy; it may contain a password."""
PreviousSecrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_previous_secrets)]
"""Previous secrets that are still accepted: separated by commas, or a JSON list where one contains
a comma."""
SigningSecret = Annotated[SecretStr, AfterValidator(_signing_secret)]
"""A key of Standard Webhooks, in base64."""
PreviousSigningSecrets = Annotated[
    tuple[SigningSecret, ...], NoDecode, BeforeValidator(_previous_secrets)
]
"""Previous keys of Standard Webhooks, written like `PreviousSecrets`."""
PreviousKeys = Annotated[tuple[HeaderSecret, ...], NoDecode, BeforeValidator(_previous_secrets)]
"""Previous keys that are sent in an HTTP header, written like `PreviousSecrets`."""

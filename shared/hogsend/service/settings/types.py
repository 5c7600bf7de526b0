"""Types of settings: what each accepts, and what to write instead of a value it refuses.

Every message names what is wrong and what to write, and repeats no part of the value: it may be a
secret, or lie beside one.
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
    """Check that a value is not still in quotes, and that something took a placeholder's place.

    Raises:
        ValueError: it is one of these.
    """
    if text[:1] in {'"', "'"} and text.endswith(text[:1]):
        # A shell takes quotes away; files of variables for containers keep them.
        raise ValueError("it is in quotes, which would be a part of it; remove them")
    if _PLACEHOLDER.fullmatch(text):
        raise ValueError(
            "it is the name of a variable or a placeholder that was not replaced; write its value"
        )


def _web_address(text: str) -> str:
    # Only a check: the text is used, and shown, exactly as the operator wrote it.
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
        raise ValueError(f"it is where webhooks go; remove {WEBHOOK_PATH}, which is added")
    return text


def _posthog_address(text: str) -> str:
    check_host(text)
    return text


def _nats_addresses(text: str) -> str:
    example = "write nats://host:4222, several separated by commas"
    addresses = [address.strip() for address in text.split(",")]
    check_commas(addresses)
    for given in addresses:
        # nats-py takes an address without a scheme for nats://.
        address = given if "://" in given else f"nats://{given}"
        user_and_password = address.partition("://")[2].rpartition("@")[0]
        if any(character in user_and_password for character in "/?#[]"):
            raise ValueError(
                "a password in it has a character of addresses; write %2F, %3F, %23, %5B and %5D "
                "for a /, ?, #, [ and ]"
            )
        parts = _parsed(address, example)
        if parts.scheme not in {"nats", "tls", "ws", "wss"}:
            raise ValueError(f"an address begins neither with nats:// nor with tls://; {example}")
        if parts.query or parts.fragment or parts.path.strip("/"):
            raise ValueError(f"an address goes on after host and port; {example}")
    return text


def _parsed(text: str, example: str) -> SplitResult:
    if not text or any(character <= " " or character in "\\\x7f" for character in text):
        raise ValueError(f"it has a space, a backslash or a control character; {example}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        # The error would quote it.
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
        # The command line, which reads it as well, must not find another number in it.
        raise ValueError(f"it is not a port; write a number of 1 to {_MAX_PORT}, digits only")
    return value


def _header_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text.lower().startswith("bearer "):
        raise ValueError("it begins with the word Bearer, which is not a part of it; remove it")
    if not all(" " <= character <= "~" for character in text):
        raise ValueError(
            "it has characters that an HTTP header does not carry unchanged; use letters, digits "
            "and punctuation of ASCII, for example from `openssl rand -hex 32`"
        )
    return secret


def _project_key(secret: SecretStr) -> SecretStr:
    # Keys from before PostHog gave them prefixes have none.
    text = secret.get_secret_value()
    if re.match(r"ph[abd-z]_", text):
        raise ValueError(
            "it is a personal key, a feature flags key or a token, which must not be sent with "
            "events; write the project's, which begins with phc_"
        )
    if re.search(r"[\s,;#]", text):
        raise ValueError("it is more than one key; write the project's alone, from phc_ on")
    return secret


def _personal_key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text.startswith("phc_"):
        raise ValueError(
            "it is a project's key, with which nothing can be read; write a personal one, which "
            "begins with phx_"
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
    # What Python, Node and most others call it, too.
    return "warning" if _lower(value) == "warn" else _lower(value)


def _expanded(path: Path) -> Path:
    if str(path).startswith("$"):
        raise ValueError("it begins with a variable that was not replaced; write the path")
    try:
        # A shell does this, unless the path is in a file of variables or in quotes.
        return path.expanduser()
    except RuntimeError:
        raise ValueError("the home directory (~) is not known; write the path") from None


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(entry.strip() for entry in value.split(",") if entry.strip())


def _earlier_secrets(value: object) -> object:
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return _split(value)
    try:
        listed = msgspec.json.decode(value, type=tuple[str, ...])
    except NOT_JSON:
        # The error may quote it.
        raise ValueError(
            'it begins with [ and is not a list of texts in JSON; write ["first","second"], '
            "also for a secret that begins with ["
        ) from None
    return tuple(secret for secret in listed if secret.strip())


def _proxy_address(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    example = "write http://proxy.example.com:3128, with user:password@ before the host if it asks"
    # curl and others take an address without a scheme for http://.
    parts = _parsed(text if "://" in text else f"http://{text}", example)
    if parts.scheme.startswith("socks"):
        raise ValueError(f"SOCKS is not supported; {example}")
    if parts.scheme not in {"http", "https"} or parts.path.strip("/") or parts.query:
        raise ValueError(f"it is not the address of a proxy; {example}")
    return secret if "://" in text else SecretStr(f"http://{text}")


Port = Annotated[int, BeforeValidator(_port), Field(ge=1, le=_MAX_PORT)]
OptionalPort = Annotated[int, BeforeValidator(_port), Field(ge=0, le=_MAX_PORT)]
ListeningHost = Annotated[str, AfterValidator(_listening_host)]
"""An address or name of this machine to listen on."""
Url = Annotated[str, AfterValidator(_web_address)]
PostHogUrl = Annotated[Url, AfterValidator(_posthog_address)]
"""Address of a PostHog."""
PublicUrl = Annotated[Url, AfterValidator(_public_address)]
"""Address of the gateway, as others reach it."""
AnyCase = Annotated[T, BeforeValidator(_lower)]
"""One of several words, in capitals or not."""
LevelName = Annotated[T, BeforeValidator(_log_level)]
FilePath = Annotated[Path, AfterValidator(_expanded)]
"""A file or directory; `~` is the home directory."""
NatsUrl = Annotated[str, AfterValidator(_nats_addresses)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_secret)]
"""A secret that travels in an HTTP header: as a bearer, or PostHog's webhook secret."""
ProjectKey = Annotated[HeaderSecret, AfterValidator(_project_key)]
"""PostHog's key to a project, with which events are sent."""
PersonalKey = Annotated[HeaderSecret, AfterValidator(_personal_key)]
"""A key of a person to PostHog's private API."""
ProjectId = Annotated[str, AfterValidator(_project_id)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_postgres_address)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
RetentionDays = Annotated[int, Field(ge=0, le=36_500)]
"""Days that something is kept; 0 is for ever."""
ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy_address)]
"""Address of an HTTP proxy, with its password if it has one."""
PreviousSecrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_earlier_secrets)]
"""Earlier secrets that are still accepted, separated by commas or, as one of them has a comma in
it, in a list of JSON."""
SigningSecret = Annotated[SecretStr, AfterValidator(_signing_secret)]
"""A key of Standard Webhooks, in base64."""
PreviousSigningSecrets = Annotated[
    tuple[SigningSecret, ...], NoDecode, BeforeValidator(_earlier_secrets)
]
"""The same for such keys."""
PreviousKeys = Annotated[tuple[HeaderSecret, ...], NoDecode, BeforeValidator(_earlier_secrets)]
"""The same for keys that travel in a header."""

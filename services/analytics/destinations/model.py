"""A destination and its settings (contract 6.1 and 6.3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.destinations import DestinationKind, OutboundDestination
from hogsend.contract.engagement import CATALOG
from hogsend.contract.errors import InvalidRequest
from hogsend.service.ssrf import EgressPolicy
from hogsend.urls import has_password, is_absolute_url, origin

MASK = "***"
KEY = "apiKey"

_KEYS = frozenset({KEY, "apikey", "api_key"})


class DestinationConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a destination maps events and where it captures them."""

    api_key: str | None = None
    """The destination's own project key; None means the instance's."""
    host: str | None = None
    event_names: dict[str, str] = {}
    """Names that events are captured under, by engagement type."""
    sync_persons: Any = None
    """Stored as the operator gave it; only JSON's `true` enables it."""
    unsubscribed_property_key: str | None = None

    @property
    def syncs_persons(self) -> bool:
        """Whether contact changes are sent."""
        return self.sync_persons is True

    def __repr__(self) -> str:
        """Hide the key."""
        return f"DestinationConfig(host={self.host!r})"


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A destination as it is stored."""

    id: UUID
    url: str
    kind: DestinationKind
    description: str | None
    event_types: list[str]
    given: Properties
    """The config as the operator gave it, including fields that Hogsend does not use."""
    config: DestinationConfig
    disabled: bool
    is_default: bool
    """Whether it is the default destination (column `seeded`)."""
    last_delivery_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def masked(self) -> OutboundDestination:
        """Return the destination as the API shows it, with the key masked."""
        return OutboundDestination(
            id=str(self.id),
            url=self.url,
            kind=self.kind,
            description=self.description,
            event_types=self.event_types,
            config={
                name: MASK if name in _KEYS and value else value
                for name, value in self.given.items()
            },
            disabled=self.disabled,
            last_delivery_at=self.last_delivery_at,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )

    def __repr__(self) -> str:
        """Show only the id: the config may contain a key."""
        return f"Destination(id={str(self.id)!r})"


def validated_url(url: str) -> str:
    """Validate a URL and return it.

    Raises:
        InvalidRequest: the URL is not absolute, or has a password, which the API would show.
    """
    check_text("url", url)
    if not is_absolute_url(url):
        raise InvalidRequest(f"url: {url!r} is not a URL")
    if has_password(url):
        raise InvalidRequest("url must not carry a user or password")
    return url


def check_text(name: str, value: object) -> None:
    """Check that a field, including nested keys and values, has no NUL character.

    PostgreSQL cannot store NUL.

    Raises:
        InvalidRequest: the field has a NUL; the message names the field, never its value.
    """
    match value:
        case str() if "\0" in value:
            raise InvalidRequest(f"{name} has a NUL character, which cannot be stored")
        case dict():
            for key, nested in value.items():
                check_text(name, key)
                check_text(f"{name}.{key}", nested)
        case list():
            for index, nested in enumerate(value):
                check_text(f"{name}[{index}]", nested)


def validated_types(types: list[str]) -> list[str]:
    """Validate event types and return them without duplicates.

    Raises:
        InvalidRequest: an event type does not exist.
    """
    if unknown := [type for type in types if type not in CATALOG]:
        raise InvalidRequest(
            f"eventTypes: there is no {', '.join(map(repr, unknown))}; see docs/engagement.md"
        )
    return list(dict.fromkeys(types))


def validated_config(given: Properties, egress: EgressPolicy, instance_host: str) -> Properties:
    """Validate the config of a new destination and return it without a masked key.

    Args:
        given: the config in the request.
        egress: which hosts may be called.
        instance_host: the host that the instance's own key is for.

    Raises:
        InvalidRequest: a field has the wrong type, the host may not be called, or the instance's
            key would be sent to another host.
    """
    check_text("config", given)
    config = dict(given)
    if config.get(KEY) == MASK:
        del config[KEY]
    parsed = read_config(config)
    _check_host(parsed, egress)
    if not parsed.api_key and not is_at(parsed, instance_host):
        raise InvalidRequest("config.apiKey is missing: give the key that belongs to config.host")
    return config


def patched_config(
    patch: Properties, stored: Properties, egress: EgressPolicy, instance_host: str
) -> Properties:
    """Merge a patch into a stored config (RFC 7396: null removes a field) and validate the result.

    Args:
        patch: the fields to change. The key `***` stands for the stored key.
        stored: the stored config.
        egress: which hosts may be called.
        instance_host: the host that the instance's own key is for.

    Raises:
        InvalidRequest: as for a new config, or the host changes without a new key.
    """
    patch = dict(patch)
    is_key_new = patch.get(KEY, MASK) != MASK
    if not is_key_new:
        patch.pop(KEY, None)
    config = validated_config(_merge_patch(stored, patch), egress, instance_host)
    before, after = read_config(stored), read_config(config)
    is_host_new = origin(before.host or instance_host) != origin(after.host or instance_host)
    if is_host_new and after.api_key and not is_key_new:
        raise InvalidRequest(
            "config.apiKey is missing: the stored key was given for another host; give the key "
            "that belongs to the new one, or null for both"
        )
    return config


def _merge_patch(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge_patch(result.get(name), value)
    return result


def _check_host(config: DestinationConfig, egress: EgressPolicy) -> None:
    if config.host is None:
        return
    if not (is_absolute_url(config.host) and config.host.startswith(("http://", "https://"))):
        raise InvalidRequest("config.host must be an http or https URL")
    parts = urlsplit(config.host)
    if has_password(config.host) or parts.query or parts.fragment:
        raise InvalidRequest("config.host must not carry a user, password, query or fragment")
    egress.check(config.host, "config.host")


def is_at(config: DestinationConfig, host: str) -> bool:
    """Whether a destination captures at `host`, so that the key for `host` may be used."""
    return not config.host or origin(config.host) == origin(host)


def read_config(given: Properties) -> DestinationConfig:
    """Parse a config.

    Raises:
        InvalidRequest: a field has the wrong type.
    """
    try:
        return msgspec.convert(given, DestinationConfig)
    except msgspec.ValidationError as error:
        # msgspec's message names the field, never its value.
        raise InvalidRequest(f"config: {error}") from None

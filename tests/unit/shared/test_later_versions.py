"""Messages that external services read stay readable when a later version adds values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from hogsend.contract.capabilities import Capabilities
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.notices import ToldProblems
from hogsend.contract.persons import Timezone
from hogsend.contract.registry import channels, endpoints
from hogsend.contract.users import User

EXTERNAL_USERS = {User.SUBSCRIBER, User.APP}
READ_EXTERNALLY: dict[str, Any] = {
    **{c.subject: c.message for c in channels() if EXTERNAL_USERS & {*c.subscribers}},
    **{e.subject: e.reply for e in endpoints() if EXTERNAL_USERS & {*e.callers}},
}


def closed_fields(kind: Any, path: str) -> Iterator[str]:
    """The paths of fields whose type allows a fixed set of values only."""
    if isinstance(kind, inspect.LiteralType | inspect.EnumType):
        yield path
    for field in getattr(kind, "fields", ()):
        yield from closed_fields(field.type, f"{path}.{field.encode_name}")
    for name in ("type", "item_type", "key_type", "value_type"):
        if hasattr(kind, name):
            yield from closed_fields(getattr(kind, name), path)
    for member in getattr(kind, "types", ()):
        yield from closed_fields(member, path)


@pytest.mark.parametrize("subject", READ_EXTERNALLY)
def test_no_field_that_external_services_read_is_limited_to_fixed_values(subject: str) -> None:
    assert [*closed_fields(inspect.type_info(READ_EXTERNALLY[subject]), "")] == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (
            CredentialChanged,
            {
                "provider": "posthog",
                "version": 7,
                "change": "rotated",
                "kinds": ["oauth", "service_account"],
                "changedKinds": ["service_account"],
                "scopes": [],
                "expiresAt": None,
                "changedAt": "2026-11-27T00:00:00Z",
            },
        ),
        (Capabilities, {"capabilities": [{"name": "surveys", "state": "partly", "reason": "new"}]}),
        (Timezone, {"timezone": "Europe/Berlin", "source": "calendar"}),
        # Gateways of different versions read each other's stored problems.
        (ToldProblems, {"problems": [{"kind": "disk.full", "subject": "gateway-1"}]}),
    ],
)
def test_values_that_a_later_version_adds_are_decoded_unchanged(
    kind: Any, body: dict[str, Any]
) -> None:
    assert msgspec.to_builtins(msgspec.convert(body, kind), str_keys=True) == body

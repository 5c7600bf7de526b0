"""What other people's services read stays readable when a later version says something new."""

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

OTHERS = {User.SUBSCRIBER, User.APP}
READ_BY_OTHERS: dict[str, Any] = {
    **{one.subject: one.message for one in channels() if OTHERS & {*one.subscribers}},
    **{one.subject: one.reply for one in endpoints() if OTHERS & {*one.callers}},
}


def closed(kind: Any, path: str) -> Iterator[str]:
    """Fields that take certain values only."""
    if isinstance(kind, inspect.LiteralType | inspect.EnumType):
        yield path
    for field in getattr(kind, "fields", ()):
        yield from closed(field.type, f"{path}.{field.encode_name}")
    for name in ("type", "item_type", "key_type", "value_type"):
        if hasattr(kind, name):
            yield from closed(getattr(kind, name), path)
    for one in getattr(kind, "types", ()):
        yield from closed(one, path)


@pytest.mark.parametrize("subject", READ_BY_OTHERS)
def test_no_field_that_others_read_takes_certain_values_only(subject: str) -> None:
    assert [*closed(inspect.type_info(READ_BY_OTHERS[subject]), "")] == []


@pytest.mark.parametrize(
    ("kind", "said"),
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
        # What one gateway stored, others read, also those of the version before.
        (ToldProblems, {"problems": [{"kind": "disk.full", "subject": "gateway-1"}]}),
    ],
)
def test_what_a_later_version_says_is_read_as_it_is(kind: Any, said: dict[str, Any]) -> None:
    assert msgspec.to_builtins(msgspec.convert(said, kind), str_keys=True) == said

"""Events and credential changes, as subscribers receive them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from hogsend import CredentialChanged, Event
from hogsend.contract.base import Properties

NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Plan(msgspec.Struct):
    plan: str


def event(
    id: str, name: str = "signed_up", *, plan: object = "pro", properties: Properties | None = None
) -> Event:
    """Return an event. Its properties are `properties`, by default the plan."""
    return Event(
        id=id,
        event=name,
        source="posthog",
        user_id="u_42",
        contact_key="u_42",
        occurred_at=NOW,
        received_at=NOW,
        properties={"plan": plan} if properties is None else properties,
    )


def credential_change(version: int) -> CredentialChanged:
    return CredentialChanged(
        provider="posthog",
        version=version,
        change="stored",
        kinds=["oauth"],
        changed_kinds=["oauth"],
        scopes=[],
        expires_at=None,
        changed_at=NOW,
    )

"""Export of one person: everything that is known, in pages that follow one another."""

from __future__ import annotations

from typing import Annotated, Literal, get_args
from uuid import UUID

import msgspec

from hogsend.contract.base import Message
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

Part = Literal["contact", "keys", "merges", "events", "messages", "audit"]
"""What an export consists of.

`contact`: who the person is. `keys`: what leads to the contact. `merges`: contacts that became part
of it, as they were. `events`: stored events. `messages`: what is on the streams, dead letters
included. `audit`: entries of the audit trail that name it.
"""
PARTS: tuple[Part, ...] = get_args(Part)


class ExportContact(Message, frozen=True, kw_only=True):
    """A page of one part of an export."""

    contact_id: UUID
    """Of the contact, or of one that was merged into it."""
    part: Part
    after: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """`next` of the page before."""
    only_count: bool = False


class ExportPage(Message, frozen=True, kw_only=True):
    """Some of a part; it may be empty though others follow."""

    items: list[msgspec.Raw] = []
    """Empty where only the number was asked for."""
    counts: dict[str, int]
    """How many there are on this page, by what they are: of messages, the stream."""
    next: str | None = None
    """Where the next page goes on; None after the last one."""


INGEST_EXPORT = Endpoint(
    service=User.INGEST,
    verb="export-contact",
    request=ExportContact,
    reply=ExportPage,
    callers=(User.GATEWAY,),
    summary="A page of everything that is known about one person.",
    deadline=30.0,
)

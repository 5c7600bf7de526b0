"""Export of everything that is stored about one person, page by page."""

from __future__ import annotations

from typing import Annotated, Literal, get_args
from uuid import UUID

import msgspec

from hogsend.contract.base import Message
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

Part = Literal["contact", "keys", "merges", "events", "messages", "audit"]
"""The parts of an export.

`contact`: the contact. `keys`: the keys of the contact. `merges`: the contacts that were merged
into it, as they were before. `events`: stored events. `messages`: messages on the streams, dead
letters included. `audit`: entries of the audit trail that name the contact.
"""
PARTS: tuple[Part, ...] = get_args(Part)


class ExportContact(Message, frozen=True, kw_only=True):
    """Read a page of one part of an export."""

    contact_id: UUID
    """Id of the contact, or of one that was merged into it."""
    part: Part
    after: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """Cursor: `next` of the previous page; None for the first page."""
    only_count: bool = False
    """Whether to return the counts without the items."""


class ExportPage(Message, frozen=True, kw_only=True):
    """A page of one part of an export. It may be empty although more pages follow."""

    items: list[msgspec.Raw] = []
    """The items of this page; empty if only the counts were requested."""
    counts: dict[str, int]
    """Number of items on this page by kind; messages are counted by stream."""
    next: str | None = None
    """`after` of the next page; None on the last page."""


INGEST_EXPORT = Endpoint(
    service=User.INGEST,
    verb="export-contact",
    request=ExportContact,
    reply=ExportPage,
    callers=(User.GATEWAY,),
    summary="A page of everything that is stored about one person.",
    deadline=30.0,
)

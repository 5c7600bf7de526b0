"""`/v1/admin/contacts`: who is who, and merges of two people undone; see `docs/contacts.md`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from hogsend.contract.contacts import (
    INGEST_CONTACTS,
    INGEST_SPLIT,
    ContactKey,
    ContactList,
    ContactMerge,
    ContactRecord,
    FindContacts,
    Origin,
    SplitContacts,
)
from hogsend.contract.directory import (
    INGEST_LIST_CONTACTS,
    INGEST_TIMELINE,
    EntryType,
    ListContacts,
    ListTimeline,
    Timeline,
)
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_only, admin_or_reader
from services.gateway.error_responses import admin_errors
from services.gateway.pagination import DEFAULT_LIMIT, Before, Limit, Offset

WANTED = QueryParameter(
    min_length=1,
    max_length=4096,
    description="A user id, a contact's id, or an email address: those contacts, with merges.",
)
SEARCHED = QueryParameter(
    max_length=4096,
    description="What the email address, the first user id or the contact's id begins with, in any "
    "case; among the 10,000 contacts that were made last, any part of them.",
)
Order: TypeAlias = Literal["lastSeen", "created"]
ORDER = QueryParameter(
    description="`lastSeen`: who was seen last comes first. `created`: who was made last; its "
    "pages are as fast among many contacts as among few.",
)
NAMED = PathParameter(
    max_length=4096, description="A user id, a contact's id, or an email address."
)


class ListedContact(ContactRecord, frozen=True, kw_only=True):
    """A contact; one that was asked for by key has what leads to it, too."""

    keys: list[ContactKey] | msgspec.UnsetType = msgspec.UNSET
    """At most 200 of them."""
    key_count: int | msgspec.UnsetType = msgspec.UNSET
    merges: list[ContactMerge] | msgspec.UnsetType = msgspec.UNSET
    """The latest 100 that it comes from, the latest first, those that were undone included."""
    origins: dict[str, Origin] | msgspec.UnsetType = msgspec.UNSET
    """Of each property."""
    email_origin: Origin | msgspec.UnsetType | None = msgspec.UNSET


class ContactListing(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of contacts, and how many there are in all."""

    contacts: list[ListedContact]
    total: int
    limit: int
    offset: int
    total_estimated: bool = False
    next_before: str | msgspec.UnsetType | None = msgspec.UNSET
    """`before` of the next page, in the order `created`; null on the last."""


class ContactWithPreferences(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A contact, as Hogsend's command reads it."""

    contact: ContactRecord
    preferences: None = None
    """There are none here: the service that sends the emails keeps them."""


class ContactsController(Controller):
    """People, as they were put together from their identities."""

    path = "/v1/admin/contacts"
    tags = ("Admin",)
    security = ADMIN_SECURITY

    @get(
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="findContacts",
        summary="List contacts, or find one",
        responses=admin_errors(400),
    )
    async def find_contacts(  # noqa: PLR0917 - one parameter a query key
        self,
        bus: NamedDependency[Connection],
        key: Annotated[str | None, WANTED] = None,
        search: Annotated[str | None, SEARCHED] = None,
        order: Annotated[Order, ORDER] = "lastSeen",
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
        before: Before = None,
    ) -> ContactListing:
        """List contacts; `key` gives those it leads to, with their merges and origins.

        `key` leads to contacts by user id, by id, then by email address. In the order `created`
        `nextBefore` is the `before` of the next page, and null on the last. `total` is exact up to
        10,000; beyond it is an estimate, and `totalEstimated` says so. A page is shorter than
        `limit` where no more fits into an answer; `offset` goes on with the number of its entries.
        """
        if key is None:
            wanted = ListContacts(
                search=search, order=order, limit=limit, offset=offset, before=before
            )
            page = await bus.request(INGEST_LIST_CONTACTS, wanted)
            return ContactListing(
                contacts=[_listed(contact) for contact in page.contacts],
                total=page.total,
                limit=page.limit,
                offset=page.offset,
                total_estimated=page.total_estimated,
                next_before=page.next_before,
            )
        if search is not None or before is not None:
            raise InvalidRequest("key goes with neither search nor before")
        found = (await bus.request(INGEST_CONTACTS, FindContacts(key=key))).contacts
        shown = [_listed(contact) for contact in found[offset : offset + limit]]
        return ContactListing(contacts=shown, total=len(found), limit=limit, offset=offset)

    @get(
        "/{contact:str}",
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="getContact",
        summary="Show a contact",
        responses=admin_errors(400, 404),
    )
    async def get_contact(
        self, contact: Annotated[str, NAMED], bus: NamedDependency[Connection]
    ) -> ContactWithPreferences:
        """Show the contact that a user id, a contact's id or an email address leads to."""
        page = await bus.request(INGEST_LIST_CONTACTS, ListContacts(key=contact, limit=1))
        if not page.contacts:
            raise NotFound(
                f"there is no contact {contact[:200]!r}: give a user id, a contact's id or an "
                "email address"
            )
        return ContactWithPreferences(contact=page.contacts[0])

    @get(
        "/{contact:str}/timeline",
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="listTimeline",
        summary="List what happened to a contact",
        responses=admin_errors(400, 404),
    )
    async def list_timeline(
        self,
        contact: Annotated[str, NAMED],
        bus: NamedDependency[Connection],
        type: Annotated[EntryType | None, QueryParameter()] = None,
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
    ) -> Timeline:
        """List the stored events of a contact, the latest first.

        Those under its user ids, and those that name its address only. Reported engagement with
        emails is of type `email`; of type `journey` there is nothing. A page is shorter than
        `limit` where no more fits into an answer; `offset` goes on with the number of its entries.
        """
        wanted = ListTimeline(key=contact, type=type, limit=limit, offset=offset)
        return await bus.request(INGEST_TIMELINE, wanted)

    @post(
        "/merges/{merge_id:int}/split",
        guards=[admin_only],
        status_code=200,
        operation_id="splitContacts",
        summary="Undo a merge of two contacts",
        responses=admin_errors(400, 404),
    )
    async def split_contacts(
        self,
        merge_id: Annotated[int, PathParameter(ge=1, le=2**63 - 1)],
        bus: NamedDependency[Connection],
    ) -> ContactList:
        """Make two contacts of one again, and keep them apart.

        A merge that was undone before stays as it is, and both contacts are answered.
        """
        return await bus.request(INGEST_SPLIT, SplitContacts(merge_id=merge_id))


def _listed(contact: ContactRecord) -> ListedContact:
    return ListedContact(**msgspec.structs.asdict(contact))

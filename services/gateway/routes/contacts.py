"""`/v1/admin/contacts`: lists contacts, and undoes merges of two people; see `docs/contacts.md`."""

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

KEY = QueryParameter(
    min_length=1,
    max_length=4096,
    description="A user id, a contact's id, or an email address. Returns its contacts, with their "
    "merges.",
)
SEARCH = QueryParameter(
    max_length=4096,
    description="Start of the email address, of the first user id, or of the contact's id, in any "
    "case. Among the 10,000 contacts created last, any part of these matches.",
)
Order: TypeAlias = Literal["lastSeen", "created"]
ORDER = QueryParameter(
    description="`lastSeen`: contacts seen last come first. `created`: contacts created last come "
    "first; a page of it takes the same time however many contacts there are.",
)
CONTACT = PathParameter(
    max_length=4096, description="A user id, a contact's id, or an email address."
)
ENTRY_TYPE = QueryParameter(
    description="Only entries of this type. `email`: reported engagement with an email. `event`: "
    "all other events. `journey`: never occurs."
)
MERGE_ID = PathParameter(
    ge=1, le=2**63 - 1, description="`id` of the merge in `merges` of the contact."
)


class ListedContact(ContactRecord, frozen=True, kw_only=True):
    """A contact. If it was requested by `key`, the optional fields are present."""

    keys: list[ContactKey] | msgspec.UnsetType = msgspec.UNSET
    """Ids and addresses of the contact, at most 200 of them."""
    key_count: int | msgspec.UnsetType = msgspec.UNSET
    """Number of all its keys, of which `keys` lists at most 200."""
    merges: list[ContactMerge] | msgspec.UnsetType = msgspec.UNSET
    """The latest 100 merges into this contact, newest first, including undone ones."""
    origins: dict[str, Origin] | msgspec.UnsetType = msgspec.UNSET
    """The origin of each property."""
    email_origin: Origin | msgspec.UnsetType | None = msgspec.UNSET
    """The origin of the email address; null if it is unknown."""


class ContactListing(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of contacts, and the total number of contacts."""

    contacts: list[ListedContact]
    total: int
    """Number of matching contacts on all pages: exact up to 10,000, above that an estimate."""
    limit: int
    offset: int
    total_estimated: bool = False
    next_before: str | msgspec.UnsetType | None = msgspec.UNSET
    """Value of `before` for the next page in the order `created`; null on the last page."""


class ContactWithPreferences(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A contact in the form that Hogsend's command reads."""

    contact: ContactRecord
    preferences: None = None
    """Always null: email preferences are kept by the service that sends the emails."""


class ContactsController(Controller):
    """Contacts, each of which is one person with all its identities."""

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
        key: Annotated[str | None, KEY] = None,
        search: Annotated[str | None, SEARCH] = None,
        order: Annotated[Order, ORDER] = "lastSeen",
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
        before: Before = None,
    ) -> ContactListing:
        """List contacts, or with `key` find a person's contacts, with their merges and origins.

        `key` is looked up as a user id, as a contact's id, then as an email address. In the order
        `created`, `nextBefore` is the value of `before` for the next page, and null on the last.
        `total` is exact up to 10,000; above that it is an estimate, and `totalEstimated` is true.
        A page may have fewer entries than `limit`, because the size of a response is limited. Add
        the number of its entries to `offset` for the next page.
        """
        if key is None:
            query = ListContacts(
                search=search, order=order, limit=limit, offset=offset, before=before
            )
            page = await bus.request(INGEST_LIST_CONTACTS, query)
            return ContactListing(
                contacts=[_listed(contact) for contact in page.contacts],
                total=page.total,
                limit=page.limit,
                offset=page.offset,
                total_estimated=page.total_estimated,
                next_before=page.next_before,
            )
        if search is not None or before is not None:
            raise InvalidRequest("key cannot be combined with search or before")
        matches = (await bus.request(INGEST_CONTACTS, FindContacts(key=key))).contacts
        shown = [_listed(contact) for contact in matches[offset : offset + limit]]
        return ContactListing(contacts=shown, total=len(matches), limit=limit, offset=offset)

    @get(
        "/{contact:str}",
        guards=[admin_or_reader],
        security=READ_KEY,
        operation_id="getContact",
        summary="Show a contact",
        responses=admin_errors(400, 404),
    )
    async def get_contact(
        self, contact: Annotated[str, CONTACT], bus: NamedDependency[Connection]
    ) -> ContactWithPreferences:
        """Show the contact with this user id, contact id or email address."""
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
        summary="List the events of a contact",
        responses=admin_errors(400, 404),
    )
    async def list_timeline(
        self,
        contact: Annotated[str, CONTACT],
        bus: NamedDependency[Connection],
        type: Annotated[EntryType | None, ENTRY_TYPE] = None,
        limit: Limit = DEFAULT_LIMIT,
        offset: Offset = 0,
    ) -> Timeline:
        """List the stored events of a contact, newest first.

        These are the events with one of its user ids, and events that name only its email address.
        Reported engagement with emails has the type `email`. The type `journey` never occurs. A
        page may have fewer entries than `limit`, because the size of a response is limited. Add the
        number of its entries to `offset` for the next page.
        """
        query = ListTimeline(key=contact, type=type, limit=limit, offset=offset)
        return await bus.request(INGEST_TIMELINE, query)

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
        merge_id: Annotated[int, MERGE_ID],
        bus: NamedDependency[Connection],
    ) -> ContactList:
        """Split a merged contact into two contacts again, and keep them apart.

        If the merge was already undone, nothing is changed, and both contacts are returned.
        """
        return await bus.request(INGEST_SPLIT, SplitContacts(merge_id=merge_id))


def _listed(contact: ContactRecord) -> ListedContact:
    return ListedContact(**msgspec.structs.asdict(contact))

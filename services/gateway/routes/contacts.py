"""`/v1/admin/contacts`: who is who, and merges of two people undone; see `docs/contacts.md`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from litestar import Controller, MediaType, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from hogsend.contract.contacts import (
    INGEST_CONTACTS,
    INGEST_ERASE,
    INGEST_SPLIT,
    ContactKey,
    ContactList,
    ContactMerge,
    ContactRecord,
    EraseContact,
    Erasure,
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
from hogsend.contract.exports import INGEST_EXPORT, ExportContact, Part
from hogsend.contract.persons import ANALYTICS_DELETE_PERSON, DeletePerson
from hogsend.contract.provisioning import Refusal
from hogsend.transport.connection import Connection
from services.gateway.audit import recorded
from services.gateway.auth import ADMIN_SECURITY, READ_KEY, admin_only, admin_or_reader
from services.gateway.error_responses import RefusalBody, admin_errors, refusal_response
from services.gateway.exports import document, pages
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


ContactId = Annotated[
    UUID, PathParameter(description="Id of the contact, or of one merged into it.")
]
ERASED_PARTS: tuple[Part, ...] = ("keys", "merges", "events", "messages")


class ContactExport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything about one person; each item as it is stored."""

    exported_at: str
    contact: dict[str, Any]
    keys: list[dict[str, Any]]
    merges: list[dict[str, Any]]
    events: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    audit: list[dict[str, Any]]
    complete: Literal[True]
    """The last key: a document without it was cut off."""


class ErasurePreview(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an erasure would delete now."""

    contact_id: str
    keys: int
    merges: int
    events: int
    messages: dict[str, int]
    """By stream; those without any are left out."""


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
        10,000; beyond it is an estimate, and `totalEstimated` says so.
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
        emails is of type `email`; of type `journey` there is nothing.
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

    @get(
        "/{contact_id:uuid}/export",
        guards=[recorded, admin_only],
        operation_id="exportContact",
        summary="Export a person",
        responses={
            200: ResponseSpec(ContactExport, description="Everything about the person."),
            **admin_errors(404),
        },
    )
    async def export_contact(
        self, contact_id: ContactId, bus: NamedDependency[Connection]
    ) -> Stream:
        """Give everything that is known about a person, as one document.

        The contact, what leads to it, its merges, stored events, messages on every stream, dead
        letters included, and the entries of the audit trail that name it. It is written as it is
        found; one that an error ended lacks its end. The request is in the audit trail.
        """
        wanted = ExportContact(contact_id=contact_id, part="contact")
        first = await bus.request(INGEST_EXPORT, wanted)
        return Stream(document(bus, contact_id, first), media_type=MediaType.JSON)

    @get(
        "/{contact_id:uuid}/erasure",
        guards=[admin_only],
        operation_id="previewErasure",
        summary="Count what erasing a person would take",
        responses=admin_errors(404),
    )
    async def preview_erasure(
        self, contact_id: ContactId, bus: NamedDependency[Connection]
    ) -> ErasurePreview:
        """Count what an erasure would delete now. Looks through all of it, and changes nothing."""
        counts: dict[str, Counter[str]] = {}
        for part in ERASED_PARTS:
            found = counts.setdefault(part, Counter())
            async for page in pages(bus, contact_id, part, only_count=True):
                found.update(page.counts)
        return ErasurePreview(
            contact_id=str(contact_id),
            keys=counts["keys"].total(),
            merges=counts["merges"].total(),
            events=counts["events"].total(),
            messages=dict(counts["messages"]),
        )

    @delete(
        "/{contact_id:uuid}",
        guards=[admin_only],
        status_code=202,
        operation_id="eraseContact",
        summary="Erase a person",
        responses={
            202: ResponseSpec(Erasure, description="The contact is gone; the rest follows."),
            409: ResponseSpec(RefusalBody, description="Something is missing on this side."),
            502: ResponseSpec(RefusalBody, description="PostHog refused; nothing was erased."),
            **admin_errors(404),
        },
    )
    async def erase_contact(
        self,
        contact_id: ContactId,
        bus: NamedDependency[Connection],
        in_posthog: Annotated[
            Literal["true", "false"],
            QueryParameter(
                name="posthog", description="Delete the person in PostHog first, events included."
            ),
        ] = "false",
    ) -> Response[Erasure | RefusalBody]:
        """Erase everything about a person, here and on every stream.

        The contact is gone with the answer; events and messages follow, and `finishedAt` says when
        they are. Asking again changes nothing, and answers how far it is.

        With `posthog` PostHog deletes first. If it refuses, nothing is erased here either: what the
        person is known by would be forgotten, and with it whom to delete there.
        """
        if (
            in_posthog == "true"
            and (refusal := await _delete_in_posthog(bus, contact_id)) is not None
        ):
            return refusal_response(refusal)
        erasure = await bus.request(INGEST_ERASE, EraseContact(contact_id=contact_id))
        return Response(erasure, media_type=MediaType.JSON)


async def _delete_in_posthog(bus: Connection, contact_id: UUID) -> Refusal | None:
    ids = [str(contact_id)]
    try:
        # It may be the id of one that was merged into this contact, which has its own.
        for part in _KNOWN_BY:
            async for page in pages(bus, contact_id, part):
                known = [msgspec.json.decode(item, type=_KnownBy) for item in page.items]
                ids += [text for one in known if (text := one.id or one.value)]
    except NotFound:
        return Refusal(
            reason="precondition",
            code="contact_not_known",
            detail="There is no such contact (any more), so it has no known person in PostHog.",
            remediation="Delete the person in PostHog by hand; without `posthog` this request says "
            "how far an erasure is.",
        )
    wanted = DeletePerson(list(dict.fromkeys(ids)))
    return (await bus.request(ANALYTICS_DELETE_PERSON, wanted)).refusal


_KNOWN_BY: tuple[Part, ...] = ("contact", "keys")


class _KnownBy(msgspec.Struct, frozen=True):
    """What an export says of a contact, or of something that leads to it."""

    id: str = ""
    value: str = ""


def _listed(contact: ContactRecord) -> ListedContact:
    return ListedContact(**msgspec.structs.asdict(contact))

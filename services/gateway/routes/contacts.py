"""`/v1/admin/contacts`: who is who, and merges of two people undone; see `docs/contacts.md`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from hogsend.contract.contacts import (
    INGEST_CONTACTS,
    INGEST_ERASE,
    INGEST_SPLIT,
    ContactList,
    EraseContact,
    Erasure,
    FindContacts,
    SplitContacts,
)
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, admin_only, admin_or_reader
from services.gateway.error_responses import admin_errors

WANTED = QueryParameter(
    min_length=1, max_length=4096, description="A user id, a contact's id, or an email address."
)


class ContactsController(Controller):
    """People, as they were put together from their identities."""

    path = "/v1/admin/contacts"
    tags = ("Admin",)
    security = ADMIN_SECURITY

    @get(
        guards=[admin_or_reader],
        operation_id="findContacts",
        summary="Find a contact and the merges it comes from",
        responses=admin_errors(400),
    )
    async def find_contacts(
        self, key: Annotated[str, WANTED], bus: NamedDependency[Connection]
    ) -> ContactList:
        """Give the contacts that a text leads to: by user id, by id, then by email address."""
        return await bus.request(INGEST_CONTACTS, FindContacts(key=key))

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

    @delete(
        "/{contact_id:uuid}",
        guards=[admin_only],
        status_code=202,
        operation_id="eraseContact",
        summary="Erase a person",
        responses=admin_errors(404),
    )
    async def erase_contact(
        self,
        contact_id: Annotated[
            UUID, PathParameter(description="Id of the contact, or of one merged into it.")
        ],
        bus: NamedDependency[Connection],
    ) -> Erasure:
        """Erase everything about a person, here and on every stream.

        The contact is gone with the answer; events and messages follow, and `finishedAt` says when
        they are. Asking again changes nothing, and answers how far it is.
        """
        return await bus.request(INGEST_ERASE, EraseContact(contact_id=contact_id))

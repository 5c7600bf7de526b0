"""`/v1/contacts`: writes, finds and erases contacts, for Hogsend's command and client."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, put
from litestar.di import NamedDependency
from litestar.exceptions.http_exceptions import ClientException, RequestEntityTooLarge
from litestar.params import JSONBody, QueryParameter

from hogsend.contract.base import Properties
from hogsend.contract.contacts import INGEST_ERASE, EraseContact
from hogsend.contract.credentials import Deleted
from hogsend.contract.directory import (
    INGEST_LIST_CONTACTS,
    INGEST_RECORD_CONTACT,
    ContactPage,
    ContactRecorded,
    ListContacts,
    RecordContact,
)
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.transport.connection import Connection
from services.gateway.auth import (
    ADMIN_SECURITY,
    INGEST_KEY,
    READ_KEY,
    admin_only,
    admin_or_reader,
    reporters_only,
)
from services.gateway.error_responses import admin_errors, documented_errors
from services.gateway.routes.record import ENVELOPE_BYTES, Email, UserId

NO_LISTS = (
    "there are no mailing lists here, and nothing was changed: leave out `lists`, and keep "
    "subscriptions where the emails are sent"
)

EMAIL = QueryParameter(
    max_length=4096, description="The contact's email address, compared without regard to case."
)
USER_ID = QueryParameter(
    name="userId", max_length=4096, description="Any user id of the contact: PostHog's distinct id."
)


class ReportedContact(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A person, named by `userId`, `email` or both, and properties to set."""

    user_id: UserId | None = None
    """Id of the person in your product; PostHog's distinct id."""
    email: Email | None = None
    """Compared without regard to case."""
    anonymous_id: UserId | None = None
    """Ignored. To merge an anonymous person in PostHog, send it an event with both ids."""
    properties: Properties = {}
    """Properties to set. Other properties are kept."""
    lists: dict[str, bool] = {}
    """Refused unless empty, because there are no mailing lists here."""


class WhichContact(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A person, named by `userId`, `email` or both."""

    user_id: UserId | None = None
    """Id of the person in your product; PostHog's distinct id."""
    email: Email | None = None
    """Compared without regard to case."""


class ContactRecordsController(Controller):
    """Contacts, also for keys that may only report events."""

    path = "/v1/contacts"
    tags = ("Events",)

    @put(
        guards=[reporters_only],
        operation_id="recordContact",
        summary="Create or update a contact",
        security=ADMIN_SECURITY + INGEST_KEY,
        responses=documented_errors(400, 401, 403, 413, 429, 503),
    )
    async def record_contact(
        self,
        data: JSONBody[ReportedContact],
        bus: NamedDependency[Connection],
        request: Request[Any, Any, Any],
    ) -> ContactRecorded:
        """Store properties of a person as an event, `contact.created` or `contact.updated`.

        The event is stored and published when the response is sent. It is also sent to
        destinations.
        """
        if data.user_id is None and data.email is None:
            raise InvalidRequest("userId or email is required")
        if data.lists:
            raise ClientException(NO_LISTS)
        # The message contains the properties twice: once more in the event's data.
        if 2 * len(await request.body()) > bus.max_payload - ENVELOPE_BYTES:
            raise RequestEntityTooLarge
        contact = RecordContact(
            user_id=data.user_id or "",
            email=data.email,
            properties=data.properties,
            received_at=datetime.now(UTC),
        )
        return await bus.request(INGEST_RECORD_CONTACT, contact)

    @get(
        "/find",
        guards=[admin_or_reader],
        operation_id="findContact",
        summary="Find a contact",
        security=ADMIN_SECURITY + READ_KEY,
        responses=admin_errors(400),
    )
    async def find_contact(
        self,
        bus: NamedDependency[Connection],
        email: Annotated[str | None, EMAIL] = None,
        user_id: Annotated[str | None, USER_ID] = None,
    ) -> ContactPage:
        """Find the contacts of a user id and of an email address."""
        if not user_id and not email:
            raise InvalidRequest("userId or email is required")
        return await bus.request(INGEST_LIST_CONTACTS, ListContacts(user_id=user_id, email=email))

    @delete(
        guards=[admin_only],
        status_code=200,
        operation_id="deleteContact",
        summary="Erase a person by user id or email",
        security=ADMIN_SECURITY,
        responses=admin_errors(400, 404, 413),
    )
    async def delete_contact(
        self, data: JSONBody[WhichContact], bus: NamedDependency[Connection]
    ) -> Deleted:
        """Erase everything about a person, like `DELETE /v1/admin/contacts/{contact_id}`.

        The request is refused if `userId` and `email` belong to two contacts.
        """
        if data.user_id is None and data.email is None:
            raise InvalidRequest("userId or email is required")
        query = ListContacts(user_id=data.user_id, email=data.email)
        contacts = (await bus.request(INGEST_LIST_CONTACTS, query)).contacts
        if not contacts:
            raise NotFound("Contact not found")
        if len(contacts) > 1:
            raise InvalidRequest("userId and email belong to two contacts: name one of them")
        await bus.request(INGEST_ERASE, EraseContact(contact_id=UUID(contacts[0].id)))
        return Deleted(deleted=True)

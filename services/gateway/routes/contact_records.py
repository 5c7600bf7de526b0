"""`/v1/contacts`: people as Hogsend's command and client write and find them."""

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
from services.gateway.routes.record import ROOM_BYTES, Email, UserId

NO_LISTS = (
    "there are no mailing lists here, and nothing was changed: leave out `lists`, and keep "
    "subscriptions where the emails are sent"
)


class ReportedContact(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A person, named by `userId`, `email` or both."""

    user_id: UserId | None = None
    email: Email | None = None
    anonymous_id: UserId | None = None
    """Ignored: an event that names both ids in PostHog makes them one person."""
    properties: Properties = {}
    """Properties to set; others stay."""
    lists: dict[str, bool] = {}
    """Refused, unless it is empty: there are no mailing lists here."""


class WhichContact(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A person, named by `userId`, `email` or both."""

    user_id: UserId | None = None
    email: Email | None = None


class ContactRecordsController(Controller):
    """What is known about people, for keys that may report events."""

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
        """Store what is known about a person as an event, `contact.created` or `contact.updated`.

        It is stored and published when this answers, and sent to destinations.
        """
        if data.user_id is None and data.email is None:
            raise InvalidRequest("userId or email is required")
        if data.lists:
            raise ClientException(NO_LISTS)
        # The properties are in the event's data as well.
        if 2 * len(await request.body()) > bus.max_payload - ROOM_BYTES:
            raise RequestEntityTooLarge
        known = RecordContact(
            user_id=data.user_id or "",
            email=data.email,
            properties=data.properties,
            received_at=datetime.now(UTC),
        )
        return await bus.request(INGEST_RECORD_CONTACT, known)

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
        email: Annotated[str | None, QueryParameter(max_length=4096)] = None,
        user_id: Annotated[str | None, QueryParameter(name="userId", max_length=4096)] = None,
    ) -> ContactPage:
        """Give the contacts that a user id and an email address lead to."""
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

        Ids that lead to two contacts are refused.
        """
        if data.user_id is None and data.email is None:
            raise InvalidRequest("userId or email is required")
        wanted = ListContacts(user_id=data.user_id, email=data.email)
        contacts = (await bus.request(INGEST_LIST_CONTACTS, wanted)).contacts
        if not contacts:
            raise NotFound("Contact not found")
        if len(contacts) > 1:
            raise InvalidRequest("userId and email lead to two contacts: name one of them")
        await bus.request(INGEST_ERASE, EraseContact(contact_id=UUID(contacts[0].id)))
        return Deleted()

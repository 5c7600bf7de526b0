"""Records what a service reports about a person, as an event about the contact."""

from __future__ import annotations

from hogsend.contract.base import Properties
from hogsend.contract.directory import ContactRecorded, ListContacts, RecordContact
from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.contract.events import RecordEvent
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.contacts.lookup import keys_named
from services.ingest.events.recording import Recorder

CREATED, UPDATED = "contact.created", "contact.updated"


class ContactRecorder:
    """Stores reports about people; publishes them to subscribers and destinations."""

    def __init__(self, directory: ContactDirectory, recorder: Recorder) -> None:
        self._directory = directory
        self._recorder = recorder

    async def record(self, request: RecordContact, correlation_id: str | None) -> ContactRecorded:
        """Store a report as an event, `contact.created` or `contact.updated`, and publish it.

        Raises:
            InvalidRequest: the report identifies no person, or PostgreSQL or the bus rejects it.
            Unavailable: PostgreSQL or NATS is unavailable; the report may be stored nevertheless.
        """
        keys = keys_named(request.user_id, request.email)
        if not keys:
            raise InvalidRequest("userId or email must name a person")
        owners_before = await self._directory.owners_of(keys)
        data: Properties = {"email": request.email, "properties": request.properties}
        if request.user_id:
            data["externalId"] = request.user_id
        await self._recorder.record(
            RecordEvent(
                event=UPDATED if owners_before else CREATED,
                user_id=request.user_id,
                email=request.email,
                properties=data,
                contact_properties=request.properties,
                received_at=request.received_at,
            ),
            correlation_id,
        )
        query = ListContacts(user_id=request.user_id, email=request.email, limit=1)
        contacts = (await self._directory.page(query)).contacts
        if not contacts:
            raise Unavailable("the contact was erased while it was stored")
        created = contacts[0].created_at == request.received_at
        return ContactRecorded(
            id=contacts[0].id,
            created=created,
            linked=not created and await self._directory.owners_of(keys) != owners_before,
        )

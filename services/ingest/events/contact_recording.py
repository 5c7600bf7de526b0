"""What is known about a person, reported to Hogsend itself: an event about the contact."""

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
    """Stores what is known about people, and tells subscribers and destinations."""

    def __init__(self, directory: ContactDirectory, recorder: Recorder) -> None:
        self._directory = directory
        self._recorder = recorder

    async def record(self, known: RecordContact, correlation_id: str | None) -> ContactRecorded:
        """Store it as an event, `contact.created` or `contact.updated`, and publish that.

        Raises:
            InvalidRequest: it identifies no person, or PostgreSQL or the bus cannot hold it.
            Unavailable: PostgreSQL or NATS is unavailable; it may be stored all the same.
        """
        keys = keys_named(known.user_id, known.email)
        if not keys:
            raise InvalidRequest("userId or email must name a person")
        before = await self._directory.owners_of(keys)
        said: Properties = {"email": known.email, "properties": known.properties}
        if known.user_id:
            said["externalId"] = known.user_id
        await self._recorder.record(
            RecordEvent(
                event=UPDATED if before else CREATED,
                user_id=known.user_id,
                email=known.email,
                properties=said,
                contact_properties=known.properties,
                received_at=known.received_at,
            ),
            correlation_id,
        )
        named = ListContacts(user_id=known.user_id, email=known.email, limit=1)
        contacts = (await self._directory.page(named)).contacts
        if not contacts:
            raise Unavailable("the contact was erased while it was stored")
        created = contacts[0].created_at == known.received_at
        return ContactRecorded(
            id=contacts[0].id,
            created=created,
            linked=not created and await self._directory.owners_of(keys) != before,
        )

"""What a service is answered that reports a person who is erased meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import AsyncMock, Mock

import pytest

from hogsend.contract.directory import ContactPage, RecordContact
from hogsend.contract.errors import Unavailable
from services.ingest.contacts.directory import ContactDirectory
from services.ingest.events.contact_recording import ContactRecorder
from services.ingest.events.recording import Recorder


async def test_a_report_about_a_person_who_is_erased_meanwhile_can_be_repeated() -> None:
    directory, recorder = Mock(ContactDirectory), Mock(Recorder)
    directory.owners_of = AsyncMock(return_value={})
    directory.page = AsyncMock(return_value=ContactPage(contacts=[], total=0, limit=1, offset=0))
    recorder.record = AsyncMock()
    report = RecordContact(
        user_id="ada", email=None, properties={}, received_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    with pytest.raises(Unavailable, match="erased while it was stored"):
        await ContactRecorder(directory, recorder).record(report, None)

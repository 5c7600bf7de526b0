"""Reading contacts from ingest."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.base import Empty
from hogsend.contract.contacts import INGEST_CONTACT, INGEST_FILL_TIMEZONE, Contact
from hogsend.contract.errors import Unavailable
from services.analytics.persons.contacts import Contacts
from tests.unit.analytics.fakes import FakeLink
from tests.virtual_time import on_virtual_time, settle


@on_virtual_time
async def test_without_ingest_a_contact_is_unavailable_or_empty() -> None:
    contacts = Contacts(FakeLink())
    with pytest.raises(Unavailable):
        await contacts.get("u_1")
    assert await contacts.get_or_empty("u_1") == Contact()


@on_virtual_time
async def test_a_time_zone_is_filled_in_the_background_and_may_fail() -> None:
    link, filled = FakeLink(), []

    def fill(request: Any) -> Empty:
        filled.append((request.user_id, request.timezone))
        return Empty()

    contacts = Contacts(link)
    contacts.fill_timezone("c_1", "Asia/Tokyo")
    await settle()
    link.reply_with(INGEST_FILL_TIMEZONE, fill)
    contacts.fill_timezone("c_1", "Asia/Tokyo")
    assert filled == []
    await settle()
    assert filled == [("c_1", "Asia/Tokyo")]


@on_virtual_time
async def test_a_contact_is_requested_by_user_id() -> None:
    link = FakeLink()
    link.reply_with(
        INGEST_CONTACT, lambda request: Contact(contact_key=f"key of {request.user_id}")
    )
    assert (await Contacts(link).get("u_1")).contact_key == "key of u_1"

"""A person's time zone (contract 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from hogsend.contract.contacts import Contact
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.persons import GetTimezone
from services.analytics.persons.timezones import Timezones
from tests.unit.analytics.fakes import FakeContacts, FakePersons

EVERYTHING = {"$timezone": "Europe/London", "$geoip_time_zone": "America/New_York"}
CONTACT = Contact(contact_key="c_1", timezone="Asia/Seoul", properties={"timezone": "Asia/Tokyo"})


@dataclass
class TimezoneLookup:
    """The person and the contact `u_1`."""

    persons: FakePersons = field(default_factory=FakePersons)
    contacts: FakeContacts = field(default_factory=FakeContacts)

    async def find(self, **options: Any) -> tuple[str, str]:
        """Return the time zone and its source."""
        timezones = Timezones(self.persons, self.contacts, "Europe/Madrid")
        result = await timezones.find(GetTimezone("u_1", **options))
        return result.timezone, result.source


def person_with(properties: dict[str, Any], contact: Contact | None = None) -> TimezoneLookup:
    return TimezoneLookup(
        FakePersons({"u_1": properties}), FakeContacts({"u_1": contact} if contact else {})
    )


@pytest.mark.parametrize(
    ("properties", "contact", "expected"),
    [
        (EVERYTHING, CONTACT, ("Europe/London", "posthog_timezone")),
        (
            {"$timezone": "", "$geoip_time_zone": "america/new_york"},
            CONTACT,
            ("America/New_York", "posthog_geoip"),
        ),
        ({}, CONTACT, ("Asia/Seoul", "contact_column")),
        (
            {"$timezone": 5},
            Contact(properties={"timezone": "Asia/Tokyo"}),
            ("Asia/Tokyo", "contact_properties"),
        ),
        ({}, None, ("Europe/Madrid", "default")),
    ],
)
async def test_case_103_the_first_source_with_a_time_zone_is_used(
    properties: dict[str, Any], contact: Contact | None, expected: tuple[str, str]
) -> None:
    assert await person_with(properties, contact).find() == expected


async def test_the_default_of_the_caller_precedes_that_of_the_operator() -> None:
    assert await person_with({}).find(default="Asia/Kolkata") == ("Asia/Kolkata", "default")
    assert await person_with({}).find(default="Mars/Olympus") == ("Europe/Madrid", "default")


async def test_an_explicit_time_zone_takes_precedence_without_a_request() -> None:
    person = person_with(EVERYTHING, CONTACT)
    assert await person.find(explicit="africa/cairo") == ("Africa/Cairo", "explicit")
    assert person.persons.requested == []


async def test_case_104_an_invalid_time_zone_is_skipped_with_one_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    contact = Contact(properties={"timezone": "Asia/Tokyo"})
    person = person_with({"$timezone": "Mars/Olympus"}, contact)
    assert await person.find() == ("Asia/Tokyo", "contact_properties")
    assert "".join(capsys.readouterr()).count("skipped an invalid time zone") == 1


@pytest.mark.parametrize("wrong", ["Mars/Olympus", "", "../../etc/passwd"])
async def test_case_105_a_wrong_explicit_time_zone_is_an_error(wrong: str) -> None:
    with pytest.raises(InvalidRequest, match="time zone"):
        await person_with({}).find(explicit=wrong)


async def test_case_105_without_any_source_the_time_zone_is_utc() -> None:
    timezones = Timezones(FakePersons(), FakeContacts(), "")
    result = await timezones.find(GetTimezone("u_1"))
    assert (result.timezone, result.source) == ("UTC", "fallback")


async def test_case_106_a_time_zone_from_posthog_fills_an_empty_column() -> None:
    person = person_with(EVERYTHING, Contact(contact_key="c_1"))
    await person.find()
    assert person.contacts.filled == [("c_1", "Europe/London")]


@pytest.mark.parametrize(
    ("properties", "contact"),
    [
        # The column has a value, the value is the contact's own, or there is no contact.
        (EVERYTHING, CONTACT),
        ({}, Contact(contact_key="c_1", properties={"timezone": "Asia/Tokyo"})),
        (EVERYTHING, None),
    ],
)
async def test_case_106_otherwise_the_column_is_not_changed(
    properties: dict[str, Any], contact: Contact | None
) -> None:
    person = person_with(properties, contact)
    await person.find()
    assert person.contacts.filled == []


async def test_a_time_zone_of_the_person_is_found_without_ingest() -> None:
    person = person_with(EVERYTHING)
    person.contacts.down = True
    assert await person.find() == ("Europe/London", "posthog_timezone")

"""A person's time zone (contract 4.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import structlog
from prometheus_client import Counter

from hogsend.contract.base import Properties
from hogsend.contract.contacts import Contact
from hogsend.contract.persons import GetTimezone, Timezone, TimezoneSource
from hogsend.contract.timezones import explicit_timezone, find_timezone
from services.analytics.persons.lookup import ContactLookup, PersonLookup

log = structlog.get_logger(__name__)

INVALID = Counter("hogsend_timezones_invalid", "Invalid time zones, by where they were", ["source"])
FROM_POSTHOG: frozenset[TimezoneSource] = frozenset({"posthog_timezone", "posthog_geoip"})

Candidate = tuple[TimezoneSource, Any]


class Timezones:
    """Finds time zones."""

    def __init__(self, persons: PersonLookup, contacts: ContactLookup, default: str) -> None:
        """Read `persons` and `contacts`; `default` is `DEFAULT_TIMEZONE`."""
        self._persons = persons
        self._contacts = contacts
        self._default = default

    async def find(self, request: GetTimezone) -> Timezone:
        """Return the first valid time zone and its source.

        Raises:
            InvalidRequest: the explicit time zone is not a valid one.
        """
        if request.explicit is not None:
            return explicit_timezone(request.explicit)
        properties, contact = await asyncio.gather(
            self._persons.properties(request.distinct_id),
            self._contacts.get_or_empty(request.distinct_id),
        )
        for source, value in self._candidates(properties, contact, request.default):
            if not isinstance(value, str) or not value:
                continue
            zone = find_timezone(value)
            if zone is None:
                INVALID.labels(source).inc()
                log.warning("skipped an invalid time zone", source=source)
                continue
            if source in FROM_POSTHOG and contact.contact_key and not contact.timezone:
                self._contacts.fill_timezone(contact.contact_key, zone)
            return Timezone(zone, source)
        return Timezone("UTC", "fallback")

    def _candidates(
        self, properties: Properties, contact: Contact, default: str | None
    ) -> Iterator[Candidate]:
        yield "posthog_timezone", properties.get("$timezone")
        yield "posthog_geoip", properties.get("$geoip_time_zone")
        yield "contact_column", contact.timezone
        yield "contact_properties", contact.properties.get("timezone")
        yield "default", default
        yield "default", self._default

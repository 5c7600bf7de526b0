"""Looks up time zones by name, as people and forms write them."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.persons import Timezone


def find_timezone(name: object) -> str | None:
    """The IANA name of a time zone, found in any case and with white space around it.

    None if there is no time zone of that name.
    """
    return _zones().get(name.strip().lower()) if isinstance(name, str) else None


def explicit_timezone(name: object) -> Timezone:
    """The time zone that a request sets, which takes precedence over other sources (4.2).

    Raises:
        InvalidRequest: there is no time zone of that name.
    """
    zone = find_timezone(name)
    if zone is None:
        raise InvalidRequest(f"there is no time zone {name!r}")
    return Timezone(zone, "explicit")


@cache
def _zones() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones() - {"Factory", "localtime"}}

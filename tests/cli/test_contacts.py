"""`hogsend contacts` against a fake server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.fakes import ADMIN_KEY, FakeHogsend
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli, Outcome

SHOW = "GET /v1/admin/contacts?key=ben%2B1%40b.com"
SPLIT = "POST /v1/admin/contacts/merges/17/split"
MERGE: dict[str, Any] = {
    "id": 17,
    "at": "2026-11-25T12:00:00Z",
    "contactId": "0197a1b2-7f3c-7000-8000-00000000000b",
    "keys": [{"kind": "external", "value": "ben\u001b[31m"}],
    "splitAt": None,
}
CONTACT: dict[str, Any] = {
    "id": "0197a1b2-7f3c-7000-8000-00000000000a",
    "contactKey": "anna",
    "externalId": "anna",
    "anonymousId": None,
    "email": None,
    "timezone": "Europe/Rome",
    "properties": {"plan": "pro"},
    "firstSeenAt": "2026-11-20T09:00:00Z",
    "lastSeenAt": "2026-11-25T12:00:00Z",
    "createdAt": "2026-11-20T09:00:00Z",
    "updatedAt": "2026-11-25T12:00:00Z",
    "keys": [{"kind": "external", "value": "anna"}],
    "keyCount": 3,
    "merges": [MERGE],
}


@pytest.fixture
def contacts(cli: Cli) -> Any:
    def run(*arguments: str) -> Outcome:
        return cli("contacts", *arguments, url=cli.url, admin_key=ADMIN_KEY)

    return run


def test_a_contact_is_shown_with_what_undoes_its_merges(
    contacts: Any, hogsend: FakeHogsend
) -> None:
    hogsend.more[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    shown = contacts("show", "ben+1@b.com")
    assert shown.code == 0
    assert "anna" in shown.out
    assert "hogsend contacts split 17" in shown.out
    assert "Europe/Rome" in shown.out
    assert "\u001b" not in shown.out
    assert "2 more keys" in shown.err
    assert contacts("show", "ben+1@b.com", "--json").json == {"contacts": [CONTACT]}


def test_nobody_is_a_failure_with_a_fix(contacts: Any, hogsend: FakeHogsend) -> None:
    hogsend.more[SHOW] = CannedResponse(200, {"contacts": []})
    shown = contacts("show", "ben+1@b.com")
    assert (shown.code, shown.out) == (1, "")
    assert "ben+1@b.com leads to no contact" in shown.err
    assert "fix: " in shown.err


def test_a_split_shows_both(contacts: Any, hogsend: FakeHogsend) -> None:
    undone = {**CONTACT, "merges": [{**MERGE, "splitAt": "2026-11-25T13:00:00Z"}]}
    other = {**CONTACT, "contactKey": "ben", "merges": []}
    hogsend.more[SPLIT] = CannedResponse(200, {"contacts": [undone, other]})
    shown = contacts("split", "17")
    assert shown.code == 0
    assert "split on 2026-11-25 13:00:00 UTC" in shown.out
    assert "ben" in shown.out


def test_a_merge_is_a_number(contacts: Any) -> None:
    assert contacts("split", "0").code == 2
    assert contacts("split", "ben").code == 2


ERASE = f"DELETE /v1/admin/contacts/{CONTACT['id']}"
ERASURE: dict[str, Any] = {
    "id": "0197a1b2-7f3c-7000-8000-00000000000e",
    "contactId": CONTACT["id"],
    "requestedAt": "2026-11-25T12:00:00Z",
    "finishedAt": None,
    "events": 0,
    "messages": 0,
}


def test_a_person_is_erased_by_the_contacts_id(contacts: Any, hogsend: FakeHogsend) -> None:
    hogsend.more[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    hogsend.more[ERASE] = CannedResponse(202, ERASURE)
    erased = contacts("erase", "ben+1@b.com", "--yes")
    assert erased.code == 0
    assert "recorded" in erased.out
    assert contacts("erase", "ben+1@b.com", "--yes", "--json").json == ERASURE


def test_nobody_is_erased_without_being_asked_for(contacts: Any, hogsend: FakeHogsend) -> None:
    hogsend.more[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    refused = contacts("erase", "ben+1@b.com")
    assert refused.code == 2
    assert "--yes" in refused.err


def test_a_key_of_two_contacts_erases_neither(contacts: Any, hogsend: FakeHogsend) -> None:
    hogsend.more[SHOW] = CannedResponse(200, {"contacts": [CONTACT, {**CONTACT, "id": "other"}]})
    refused = contacts("erase", "ben+1@b.com", "--yes")
    assert refused.code == 1
    assert "other" in refused.err

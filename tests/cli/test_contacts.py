"""`hogsend contacts` against a fake server."""

from __future__ import annotations

import io
import os
from pathlib import Path
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
    "origins": {},
    "emailOrigin": None,
}


@pytest.fixture
def contacts(cli: Cli) -> Any:
    def run(*arguments: str) -> Outcome:
        return cli("contacts", *arguments, url=cli.url, admin_key=ADMIN_KEY)

    return run


def test_contacts_are_listed_with_the_cursor_of_the_next_page(
    contacts: Any, hogsend: FakeHogsend
) -> None:
    page = {"contacts": [CONTACT], "total": 4, "limit": 50, "offset": 0, "nextBefore": "p2"}
    hogsend.responses["GET /v1/admin/contacts?order=created&limit=50"] = CannedResponse(200, page)
    listed = contacts("list")
    assert listed.out == f"2026-11-20 09:00:00\t2026-11-25 12:00:00\tanna\t\t{CONTACT['id']}\n"
    assert "1 of 4 contacts; next page: --before p2" in listed.err
    line = "GET /v1/admin/contacts?order=created&search=a+b&limit=2&before=p2"
    hogsend.responses[line] = CannedResponse(200, {**page, "contacts": [], "nextBefore": None})
    listed = contacts("list", "--search", "a b", "--limit", "2", "--before", "p2")
    assert (listed.code, listed.out) == (0, "")


def test_a_contact_is_shown_with_the_command_that_undoes_each_merge(
    contacts: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    shown = contacts("show", "ben+1@b.com")
    assert shown.code == 0
    assert "anna" in shown.out
    assert "hogsend contacts split 17" in shown.out
    assert "Europe/Rome" in shown.out
    assert "\u001b" not in shown.out
    assert "2 more keys" in shown.err
    assert contacts("show", "ben+1@b.com", "--json").json == {"contacts": [CONTACT]}


def test_a_key_without_a_contact_fails_with_a_fix(contacts: Any, hogsend: FakeHogsend) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": []})
    shown = contacts("show", "ben+1@b.com")
    assert (shown.code, shown.out) == (1, "")
    assert 'no contact has the key "ben+1@b.com"' in shown.err
    assert "fix: " in shown.err


def test_a_split_shows_both_contacts(contacts: Any, hogsend: FakeHogsend) -> None:
    undone = {**CONTACT, "merges": [{**MERGE, "splitAt": "2026-11-25T13:00:00Z"}]}
    other = {**CONTACT, "contactKey": "u_split_off", "merges": []}
    hogsend.responses[SPLIT] = CannedResponse(200, {"contacts": [undone, other]})
    shown = contacts("split", "17")
    assert shown.code == 0
    assert "undone at 2026-11-25 13:00:00 UTC" in shown.out
    assert "u_split_off" in shown.out


def test_a_split_refuses_a_merge_id_that_is_not_a_positive_number(contacts: Any) -> None:
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


def test_a_contact_found_by_its_key_is_erased_by_its_id(
    contacts: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    hogsend.responses[ERASE] = CannedResponse(202, ERASURE)
    erased = contacts("erase", "ben+1@b.com", "--yes")
    assert erased.code == 0
    assert "in progress" in erased.out
    assert contacts("erase", "ben+1@b.com", "--yes", "--json").json == ERASURE


def test_the_id_of_an_erased_contact_shows_the_result_of_its_erasure(
    contacts: Any, hogsend: FakeHogsend
) -> None:
    line = f"GET /v1/admin/contacts?key={CONTACT['id']}"
    hogsend.responses[line] = CannedResponse(200, {"contacts": []})
    finished = {**ERASURE, "finishedAt": "2026-11-25T12:05:00Z", "events": 5, "messages": 3}
    hogsend.responses[ERASE] = CannedResponse(202, finished)
    erased = contacts("erase", CONTACT["id"], "--yes")
    assert erased.code == 0
    assert "finished at 2026-11-25 12:05:00 UTC" in erased.out


def test_an_erasure_without_a_terminal_needs_yes(contacts: Any, hogsend: FakeHogsend) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    hogsend.responses[ERASE] = CannedResponse(202, ERASURE)
    refused = contacts("erase", "ben+1@b.com")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert ERASE not in hogsend.lines


@pytest.mark.parametrize(("answer", "erased"), [("y\n", True), ("n\n", False), ("", False)])
def test_an_erasure_asks_for_confirmation(
    contacts: Any, hogsend: FakeHogsend, terminal: io.StringIO, answer: str, erased: bool
) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    hogsend.responses[ERASE] = CannedResponse(202, ERASURE)
    terminal.write(answer)
    terminal.seek(0)
    outcome = contacts("erase", "ben+1@b.com")
    assert f"Permanently erase anna ({CONTACT['id']})" in outcome.out
    assert (ERASE in hogsend.lines) is erased
    assert outcome.code == (0 if erased else 1)


def test_an_erasure_is_refused_when_two_contacts_have_the_key(
    contacts: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[SHOW] = CannedResponse(
        200, {"contacts": [CONTACT, {**CONTACT, "id": "other"}]}
    )
    refused = contacts("erase", "ben+1@b.com", "--yes")
    assert refused.code == 1
    assert "other" in refused.err
    assert hogsend.lines == [SHOW]


ID = CONTACT["id"]
EXPORT = f"GET /v1/admin/contacts/{ID}/export"
COMPLETE_EXPORT = b'{"contact":{"id":"x"},\n"complete":true}\n'


def serve_export(hogsend: FakeHogsend, body: bytes) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    hogsend.responses[EXPORT] = CannedResponse(200, body)


def test_an_export_is_written_to_stdout(contacts: Any, hogsend: FakeHogsend) -> None:
    serve_export(hogsend, COMPLETE_EXPORT)
    for flags in ((), ("--json",)):
        outcome = contacts("export", "ben+1@b.com", *flags)
        assert (outcome.code, outcome.out.encode()) == (0, COMPLETE_EXPORT)


def test_an_exported_file_is_readable_by_its_owner_only(
    contacts: Any, hogsend: FakeHogsend, tmp_path: Path
) -> None:
    serve_export(hogsend, COMPLETE_EXPORT)
    file = tmp_path / "ada.json"
    outcome = contacts("export", "ben+1@b.com", "-o", str(file), "--json")
    assert outcome.json == {"output": str(file), "bytes": len(COMPLETE_EXPORT)}
    assert file.read_bytes() == COMPLETE_EXPORT
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["ada.json"]


def test_an_incomplete_export_leaves_the_earlier_file_unchanged(
    contacts: Any, hogsend: FakeHogsend, tmp_path: Path
) -> None:
    serve_export(hogsend, COMPLETE_EXPORT[:-5])
    file = tmp_path / "ada.json"
    file.write_text("earlier")
    outcome = contacts("export", "ben+1@b.com", "--output", str(file))
    assert outcome.code == 1
    assert "is incomplete" in outcome.err
    assert file.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["ada.json"]
    unwritable = contacts("export", "ben+1@b.com", "--output", str(tmp_path / "none" / "ada.json"))
    assert unwritable.code == 1
    assert "cannot be written" in unwritable.err


def test_a_refused_export_is_reported_with_the_servers_reason_and_not_written(
    contacts: Any, hogsend: FakeHogsend, tmp_path: Path
) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    hogsend.responses[EXPORT] = CannedResponse(403, {"error": "Forbidden: insufficient scope"})
    file = tmp_path / "ada.json"
    for arguments in ((), ("--output", str(file))):
        outcome = contacts("export", "ben+1@b.com", *arguments)
        assert (outcome.code, outcome.out) == (1, "")
        assert "insufficient scope" in outcome.err
    assert not file.exists()


def test_an_export_replaces_a_file_but_not_a_symlink_or_a_pipe(
    contacts: Any, hogsend: FakeHogsend, tmp_path: Path
) -> None:
    serve_export(hogsend, COMPLETE_EXPORT)
    file, link, pipe = tmp_path / "ada.json", tmp_path / "link", tmp_path / "pipe"
    file.write_text("earlier")
    link.symlink_to(file)
    assert contacts("export", "ben+1@b.com", "--output", str(link)).code == 0
    assert link.is_symlink()
    assert file.read_bytes() == COMPLETE_EXPORT
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    outcome = contacts("export", "ben+1@b.com", "--output", str(pipe), "--json")
    assert outcome.json == {"output": str(pipe), "bytes": len(COMPLETE_EXPORT)}
    assert os.read(reader, 2 * len(COMPLETE_EXPORT)) == COMPLETE_EXPORT
    os.close(reader)
    assert pipe.is_fifo()


def test_a_dry_run_of_an_erasure_counts_and_erases_nothing(
    contacts: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    preview = {"contactId": ID, "keys": 2, "merges": 1, "events": 5, "messages": {"EVENTS": 3}}
    line = f"GET /v1/admin/contacts/{ID}/erasure"
    hogsend.responses[line] = CannedResponse(200, preview)
    shown = contacts("erase", "ben+1@b.com", "--dry-run")
    assert shown.code == 0
    assert "3 on EVENTS" in shown.out
    assert "nothing was erased" in shown.out
    assert contacts("erase", "ben+1@b.com", "--dry-run", "--json").json == preview
    assert {request.line for request in hogsend.requests} == {SHOW, line}


def test_an_erasure_in_posthog_shows_the_error_of_posthog(
    contacts: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, {"contacts": [CONTACT]})
    line = f"DELETE /v1/admin/contacts/{ID}?posthog=true"
    refusal = {
        "error": "missing-scope",
        "detail": "PostHog answered 403",
        "remediation": "Grant it.",
    }
    hogsend.responses[line] = CannedResponse(502, refusal)
    refused = contacts("erase", "ben+1@b.com", "--yes", "--posthog")
    assert refused.code == 1
    assert "PostHog answered 403" in refused.err
    assert "Grant it." in refused.err
    hogsend.responses[line] = CannedResponse(202, ERASURE)
    assert contacts("erase", "ben+1@b.com", "--yes", "--posthog").code == 0

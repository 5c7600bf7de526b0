"""`hogsend destinations` against a fake server."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.cli.fakes import ADMIN_KEY, FakeHogsend
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli, Outcome

ID = "0197a1b2-7f3c-7000-8000-00000000000d"
PATH = f"/v1/admin/webhooks/{ID}"
LIST = "GET /v1/admin/webhooks?limit=50&offset=0"
SHOW = f"GET {PATH}"
DELIVERIES = f"GET {PATH}/deliveries?limit=20&offset=0"
DELETE = f"DELETE {PATH}"
DESTINATION: dict[str, Any] = {
    "id": ID,
    "url": "posthog://capture",
    "kind": "posthog",
    "description": "Ours\u001b",
    "eventTypes": ["email.sent", "email.opened"],
    "config": {"syncPersons": True, "apiKey": "***"},
    "secretPrefix": None,
    "disabled": False,
    "lastDeliveryAt": None,
    "createdAt": "2026-11-20T09:00:00Z",
    "updatedAt": "2026-11-20T09:00:00Z",
    "status": "enabled",
}
DELIVERY: dict[str, Any] = {
    "eventId": "m-1",
    "eventType": "email.opened",
    "status": "failed",
    "attempts": 8,
    "responseStatus": 503,
    "error": "PostHog\nis full",
    "finishedAt": "2026-11-25T12:00:00Z",
}
RETRYING: dict[str, Any] = {
    "since": "2026-11-25T11:00:00Z",
    "attempts": 2,
    "responseStatus": None,
    "error": "no route",
    "triedAt": "2026-11-25T12:00:00Z",
    "nextAttemptAt": "2026-11-25T12:10:00Z",
}


def delivery_page(*deliveries: dict[str, Any], **more: Any) -> CannedResponse:
    return CannedResponse(
        200, {"deliveries": deliveries, "total": 30, "limit": 20, "offset": 0, **more}
    )


@pytest.fixture
def destinations(cli: Cli) -> Any:
    def run(*arguments: str) -> Outcome:
        return cli("destinations", *arguments, url=cli.url, admin_key=ADMIN_KEY)

    return run


def test_output_to_a_pipe_has_one_line_for_each_destination(
    destinations: Any, hogsend: FakeHogsend
) -> None:
    page = {"webhooks": [DESTINATION], "total": 60, "limit": 50, "offset": 0}
    hogsend.responses[LIST] = CannedResponse(200, page)
    listed = destinations("list")
    assert listed.code == 0
    assert listed.out.split("\t") == [ID, "active", "", "Ours", "email.sent,email.opened\n"]
    assert "--offset 1" in listed.err


def test_an_empty_list_of_destinations_is_reported_on_stderr(
    destinations: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[LIST] = CannedResponse(
        200, {"webhooks": [], "total": 0, "limit": 50, "offset": 0}
    )
    listed = destinations("list")
    assert (listed.code, listed.out) == (0, "")
    assert "no destination" in listed.err


def test_a_destination_is_shown_with_its_failed_and_retried_deliveries(
    destinations: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, DESTINATION)
    hogsend.responses[DELIVERIES] = delivery_page(DELIVERY, retrying=RETRYING)
    shown = destinations("show", ID)
    assert shown.code == 0
    assert "no response (no route); the next attempt is at 2026-11-25 12:10:00 UTC" in shown.out
    assert "2026-11-25 12:00:00\temail.opened\tfailed\t8\t503\tPostHog is full\tm-1\n" in shown.out
    assert "--offset 1" in shown.err
    hogsend.responses[DELIVERIES] = delivery_page(retrying={**RETRYING, "nextAttemptAt": None})
    assert "these events are not retried" in destinations("show", ID).out
    document = destinations("show", ID, "--json").json
    assert document["destination"]["config"] == DESTINATION["config"]
    assert document["history"]["total"] == 30


def test_deliveries_are_filtered_by_status(destinations: Any, hogsend: FakeHogsend) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, DESTINATION)
    line = f"GET {PATH}/deliveries?status=failed&limit=20&offset=0"
    hogsend.responses[line] = delivery_page(DELIVERY)
    assert destinations("show", ID, "--status", "failed").code == 0
    assert destinations("show", ID, "--status", "lost").code == 2


@pytest.mark.parametrize(
    ("action", "disabled", "state"), [("pause", True, "paused"), ("resume", False, "active")]
)
def test_a_destination_is_paused_and_resumed(
    destinations: Any, hogsend: FakeHogsend, action: str, disabled: bool, state: str
) -> None:
    hogsend.responses[f"POST {PATH}/{action}"] = CannedResponse(
        200, {**DESTINATION, "disabled": disabled}
    )
    assert destinations(action, ID).out == f"{state} Ours\n"
    assert destinations(action, ID, "--json").json["disabled"] is disabled


def test_a_test_event_is_queued(destinations: Any, hogsend: FakeHogsend) -> None:
    queued = {"enqueued": True, "eventType": "webhook.test"}
    hogsend.responses[f"POST {PATH}/test"] = CannedResponse(202, queued)
    assert "queued webhook.test" in destinations("test", ID).out
    assert destinations("test", ID, "--json").json == queued


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("n\n", False), ("", False)])
def test_deleting_a_destination_asks_for_confirmation(
    destinations: Any, hogsend: FakeHogsend, terminal: io.StringIO, answer: str, deleted: bool
) -> None:
    hogsend.responses[SHOW] = CannedResponse(200, DESTINATION)
    hogsend.responses[DELETE] = CannedResponse(200, {"deleted": True})
    terminal.write(answer)
    terminal.seek(0)
    outcome = destinations("delete", ID)
    assert "Ours" in outcome.out
    assert (DELETE in hogsend.lines) is deleted
    assert outcome.code == (0 if deleted else 1)


def test_deleting_a_destination_without_a_terminal_needs_yes(
    destinations: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[DELETE] = CannedResponse(200, {"deleted": True})
    refused = destinations("delete", ID)
    assert (refused.code, DELETE in hogsend.lines) == (2, False)
    assert "add --yes" in refused.err
    assert destinations("delete", ID, "--yes").out == f"deleted {ID}\n"


def test_an_id_is_escaped_in_the_path_of_the_request(
    destinations: Any, hogsend: FakeHogsend
) -> None:
    assert destinations("pause", "../contacts?x=1").code == 1
    assert hogsend.lines == ["POST /v1/admin/webhooks/..%2Fcontacts%3Fx%3D1/pause"]


@pytest.mark.parametrize("command", ["show", "pause", "resume", "test", "delete"])
def test_an_unknown_id_is_reported_with_the_command_that_lists_them(
    destinations: Any, command: str
) -> None:
    outcome = destinations(command, "another", *(["--yes"] if command == "delete" else []))
    assert outcome.err.splitlines() == [
        "error: no destination has the id 'another'",
        "  fix: see `hogsend destinations list`",
    ]


def test_a_404_of_another_server_is_not_reported_as_an_unknown_id(
    destinations: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[SHOW] = CannedResponse(404, {"detail": "Not found."})
    outcome = destinations("show", ID)
    assert outcome.err.startswith("error: request failed with status 404")
    assert "--url is a Hogsend server" in outcome.err

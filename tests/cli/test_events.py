"""`hogsend events` against a fake server; following is tested with a real NATS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cli import bus_address
from cli.admin.client import AdminClient
from cli.admin.messages import EventReplay
from cli.bus_address import discard_stack_url, operator_address, subscriber_address
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from hogsend.contract.replays import EventsReplayed
from tests.cli.fakes import ADMIN_KEY, FakeHogsend
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli, Outcome

EVENT: dict[str, Any] = {
    "id": "0190-1",
    "event": "signed\tup",
    "userId": "u_42",
    "contactKey": "c_1",
    "source": "posthog",
    "occurredAt": "2026-11-23T10:00:00.123456Z",
    "receivedAt": "2026-11-23T10:00:01Z",
    "properties": {"plan": "free\u001b[31m"},
}
PAGE = {"events": [EVENT], "total": 3, "limit": 1, "offset": 1}
SENT = {"stored": True, "exits": [], "contactKey": "c_1", "id": "0190-2"}


def events(cli: Cli, *arguments: str) -> Outcome:
    return cli("events", *arguments, url=cli.url, admin_key=ADMIN_KEY)


def test_output_to_a_pipe_has_one_line_for_each_event(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.responses["GET /v1/admin/events?limit=1&offset=1"] = CannedResponse(200, PAGE)
    outcome = events(cli, "list", "--limit", "1", "--offset", "1")
    assert outcome.code == 0
    (line,) = outcome.out.splitlines()
    assert line.split("\t")[:4] == ["2026-11-23 10:00:00", "signed up", "u_42", "posthog"]
    assert line.endswith("\t0190-1")
    assert "\x1b" not in outcome.everything
    assert "2 to 2 of 3" in outcome.err
    assert "--offset 2" in outcome.err


def test_a_long_list_of_events_names_the_cursor_of_the_next_page(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    page = PAGE | {"total": 2_000_000, "totalEstimated": True, "nextBefore": "next"}
    hogsend.responses["GET /v1/admin/events?limit=1&offset=0&before=this"] = CannedResponse(
        200, page
    )
    continued = events(cli, "list", "--limit", "1", "--before", "this")
    assert "1 of about 2,000,000 events; next page: --before next" in " ".join(
        continued.err.split()
    )
    far = page | {"offset": 5000}
    hogsend.responses["GET /v1/admin/events?limit=1&offset=5000"] = CannedResponse(200, far)
    skipped = events(cli, "list", "--limit", "1", "--offset", "5000")
    assert "5001 to 5001 of about 2,000,000" in " ".join(skipped.err.split())
    assert "--before next" in skipped.err


def test_an_unfinished_search_names_the_cursor_that_continues_it(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    searched = {"searchedTo": "2026-03-01T12:00:00Z", "nextBefore": "next"}
    for matches in ([EVENT], []):
        page = PAGE | {"events": matches, "total": 0, "totalEstimated": True} | searched
        hogsend.responses["GET /v1/admin/events?userId=u&limit=50&offset=0"] = CannedResponse(
            200, page
        )
        hint = " ".join(events(cli, "list", "--user", "u").err.split())
        assert f"{len(matches)} event" in hint
        assert "since 2026-03-01 12:00:00; to search earlier events: --before next" in hint
        assert "no event" not in hint


def test_list_filters_are_sent_as_the_routes_query_parameters(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    since, until = "2026-01-01T00%3A00%3A00Z", "2026-02-01T12%3A00%3A00Z"
    query = f"event=a+%26b&userId=u&source=posthog&from={since}&to={until}&limit=50&offset=0"
    empty = {"events": [], "total": 0, "limit": 50, "offset": 0}
    hogsend.responses[f"GET /v1/admin/events?{query}"] = CannedResponse(200, empty)
    times = ("--from", "2026-01-01", "--to", "2026-02-01T12:00:00Z")
    outcome = events(cli, "list", "--event", "a &b", "--user", "u", "--source", "posthog", *times)
    assert (outcome.code, outcome.out) == (0, "")
    assert "no event" in outcome.err


def test_json_output_of_a_list_is_the_servers_page(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.responses["GET /v1/admin/events?limit=50&offset=0"] = CannedResponse(200, PAGE)
    assert events(cli, "list", "--json").json["events"][0]["properties"] == EVENT["properties"]


def test_an_event_is_sent(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.responses["POST /v1/events"] = CannedResponse(202, SENT)
    outcome = events(cli, "send", "signed_up", "--user", "u_42", "--properties", '{"plan": "free"}')
    assert outcome.code == 0
    assert "0190-2" in outcome.out
    (request,) = hogsend.requests
    assert request.json == {"event": "signed_up", "userId": "u_42", "properties": {"plan": "free"}}
    assert events(cli, "send", "x", "--email", "a@example.com", "--json").json["stored"] is True


def test_a_repeated_event_is_reported_as_sent_before(cli: Cli, hogsend: FakeHogsend) -> None:
    hogsend.responses["POST /v1/events"] = CannedResponse(202, {**SENT, "stored": False})
    outcome = events(cli, "send", "signed_up", "--user", "u_42", "--key", "k")
    assert outcome.code == 0
    assert "sent before" in outcome.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "signed_up"),
        ("send", "signed_up", "--user", "u", "--properties", "[]"),
        ("send", "signed_up", "--user", "u", "--properties", "{"),
        ("send", "signed_up", "--user", "u", "--contact-properties", "1"),
    ],
)
def test_events_send_without_a_person_or_with_malformed_properties_sends_no_request(
    cli: Cli, hogsend: FakeHogsend, arguments: tuple[str, ...]
) -> None:
    outcome = events(cli, *arguments)
    assert outcome.code == 2
    assert "  fix: " in outcome.err
    assert hogsend.requests == []


REPLAY = "POST /v1/admin/events/replay"
BATCH = {"id": "r1", "count": 10, "leftOut": 0, "waiting": 7, "until": "2026-02-01T00:00:00Z"}


def test_a_replay_is_requested_in_batches_until_the_last_cursor(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.series[REPLAY] = [
        CannedResponse(200, BATCH | {"after": "here"}),
        CannedResponse(200, BATCH | {"after": None}),
    ]
    outcome = events(cli, "replay", "--to", "mailer", "--since", "2026-01-01")
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        "replayed 20 events to mailer",
        "  7 of them are not acknowledged yet",
    ]
    bodies = [request.json for request in hogsend.requests]
    selection = {"to": "mailer", "since": "2026-01-01T00:00:00Z"}
    assert bodies == [selection, selection | {"after": "here"}]


def test_an_interrupted_replay_prints_the_position_at_which_it_continues(
    cli: Cli, hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch
) -> None:
    hogsend.responses[REPLAY] = CannedResponse(200, BATCH | {"after": "here"})
    request_batch = AdminClient.replay_events

    def interrupt_second_batch(client: AdminClient, replay: EventReplay) -> EventsReplayed:
        if replay.after is not None:
            raise KeyboardInterrupt
        return request_batch(client, replay)

    monkeypatch.setattr(AdminClient, "replay_events", interrupt_second_batch)
    outcome = events(cli, "replay", "--to", "mailer", "--since", "2026-01-01")
    assert outcome.code == ExitCode.INTERRUPTED
    assert "replayed 10 events to mailer; to continue, add --after here" in outcome.err


def test_a_dry_run_of_a_replay_is_requested_and_reported_as_one(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    hogsend.responses[REPLAY] = CannedResponse(200, BATCH | {"after": None})
    dry_run = ("replay", "--to", "mailer", "--since", "2026-01-01", "--dry-run")
    outcome = events(cli, *dry_run, "--json")
    assert outcome.json["count"] == 10
    assert outcome.json["dryRun"]
    assert events(cli, *dry_run).out == "10 events for mailer; none was delivered\n"
    selection = {"to": "mailer", "since": "2026-01-01T00:00:00Z", "dryRun": True}
    assert [request.json for request in hogsend.requests] == [selection, selection]


def test_the_nats_url_comes_from_the_flag_the_environment_or_the_files_of_hogsend_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for address in (subscriber_address, operator_address):
        with pytest.raises(CommandError, match="the NATS URL is not known"):
            address(None)
    (tmp_path / ".hogsend").mkdir()
    (tmp_path / ".hogsend" / "subscriber.env").write_text("NATS_USER=x\nNATS_URL=nats://file\n")
    (tmp_path / ".hogsend" / "operator.env").write_text("NATS_URL=nats://operator\n")
    assert subscriber_address(None) == "nats://file"
    assert operator_address(None) == "nats://operator"
    monkeypatch.setenv("NATS_URL", "nats://environment")
    assert subscriber_address(None) == operator_address(None) == "nats://environment"
    assert subscriber_address("nats://flag") == "nats://flag"


def test_a_nats_url_that_a_subscriber_loaded_is_not_used_by_the_operator_and_by_hogsend_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / ".hogsend"
    home.mkdir()
    for user in ("subscriber", "app", "operator"):
        (home / f"{user}.env").write_text(f"NATS_URL=nats://{user}:word@127.0.0.1:4222\n")
    for user in ("subscriber", "app"):
        url = f"nats://{user}:word@127.0.0.1:4222"
        monkeypatch.setenv("NATS_URL", url)
        assert operator_address(None) == "nats://operator:word@127.0.0.1:4222"
        assert operator_address(url) == subscriber_address(None) == url
        discard_stack_url()
        assert "NATS_URL" not in os.environ
    # With HOGSEND_HOME=. the operator's own .env is in the same directory.
    (home / ".env").write_text("NATS_URL=nats://elsewhere\n")
    monkeypatch.setenv("NATS_URL", "nats://elsewhere")
    discard_stack_url()
    assert os.environ["NATS_URL"] == "nats://elsewhere"


def test_a_restore_beside_a_stack_does_not_connect_as_the_user_of_a_subscriber(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / ".hogsend"
    home.mkdir()
    url = "nats://subscriber:word@127.0.0.1:1"
    (home / "subscriber.env").write_text(f"NATS_URL={url}\n")
    monkeypatch.setenv("NATS_URL", url)
    monkeypatch.setenv("DATABASE_URL", "postgres://127.0.0.1:1/nowhere")
    outcome = cli("restore", str(tmp_path / "backup"))
    assert outcome.code == ExitCode.FAILED
    assert f"there is a stack in {home} already" in outcome.err


def test_the_files_of_another_users_stack_do_not_matter_when_the_nats_url_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".hogsend").mkdir()
    (tmp_path / ".hogsend" / "subscriber.env").write_text("NATS_URL=nats://file\n")

    def refuse(file: Path) -> dict[str, str | None]:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(bus_address, "dotenv_values", refuse)
    assert operator_address("nats://flag") == "nats://flag"
    monkeypatch.setenv("NATS_URL", "nats://environment")
    assert operator_address(None) == "nats://environment"
    discard_stack_url()
    assert os.environ["NATS_URL"] == "nats://environment"


def test_events_show_lists_each_step_of_an_event_with_its_time(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    page = {"events": [EVENT], "total": 1, "limit": 20, "offset": 0}
    hogsend.responses["GET /v1/admin/events?limit=20&id=0190-1"] = CannedResponse(200, page)
    query = "source=posthog&id=0190-1&event=signed%09up&userId=u_42"
    delivery = {
        "eventId": "0190-1",
        "eventType": "signed_up",
        "status": "failed",
        "attempts": 2,
        "responseStatus": 500,
        "error": None,
        "finishedAt": "2026-11-23T10:00:03Z",
        "destinationId": "d-1",
        "description": "Mine",
    }
    trace: dict[str, Any] = {
        "event": EVENT,
        "correlationId": "r-1",
        "queuedAt": "2026-11-23T10:00:01.002Z",
        "storedAt": "2026-11-23T10:00:01.5Z",
        "announcement": {"state": "announced", "at": "2026-11-23T10:00:00Z", "sequence": 7},
        "deliveries": [delivery],
    }
    hogsend.responses[f"GET /v1/admin/events/trace?{query}"] = CannedResponse(200, trace)
    outcome = events(cli, "show", "0190-1")
    assert outcome.code == 0
    assert [" ".join(line.split()) for line in outcome.out.splitlines()] == [
        "signed up of u_42, from posthog",
        "happened 2026-11-23 10:00:00.123Z, by the sender's clock",
        "received 2026-11-23 10:00:01.000Z, request r-1",
        "queued 2026-11-23 10:00:01.002Z +0.002 s",
        "stored 2026-11-23 10:00:01.500Z +0.500 s",
        # NATS' clock is behind the clocks of the services.
        "announced 2026-11-23 10:00:00.000Z, message 7 of EVENTS",
        "failed 2026-11-23 10:00:03.000Z +2.000 s, to Mine after 2 attempts, PostHog replied 500",
    ]
    (shown_as_json,) = events(cli, "show", "0190-1", "--json").json["events"]
    assert shown_as_json["queuedAt"] == "2026-11-23T10:00:01.002000Z"
    unknown = {"queuedAt": None, "storedAt": None, "deliveries": None}
    trace = {**trace, **unknown, "announcement": {"state": "expired"}}
    hogsend.responses[f"GET /v1/admin/events/trace?{query}"] = CannedResponse(200, trace)
    shown = events(cli, "show", "0190-1").out
    assert "stored     its time was not recorded" in shown
    assert "no longer has messages from that time" in shown
    assert "analytics does not reply" in shown
    hogsend.responses["GET /v1/admin/events?limit=20&id=0190-1"] = CannedResponse(
        200, page | {"events": [], "total": 0}
    )
    assert "no event has the id '0190-1'" in events(cli, "show", "0190-1").err

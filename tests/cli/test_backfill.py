"""`hogsend backfill` against a fake server."""

from __future__ import annotations

from typing import Any

import pytest

from cli.backfill import progress
from cli.commands import backfill as command
from cli.exit_codes import ExitCode
from tests.cli.fakes import ADMIN_KEY, FakeHogsend
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli, Outcome

START = "POST /v1/admin/backfills"
COUNT = f"{START}/count"
LIST = "GET /v1/admin/backfills"
CANCEL = f"{START}/b-1/cancel"
IMPORT = ("posthog", "--since", "2026-01-01")
RUNNING: dict[str, Any] = {
    "id": "b-1",
    "state": "running",
    "since": "2026-01-01T00:00:00Z",
    "until": "2026-02-01T00:00:00Z",
    "events": ["signed_up"],
    "announce": False,
    "startedAt": "2026-02-01T00:00:00Z",
    "endedAt": None,
    "position": None,
    "total": 5,
    "read": 0,
    "stored": 0,
    "known": 0,
    "rejected": 0,
}
ENDED = {
    **RUNNING,
    "state": "finished",
    "endedAt": "2026-02-01T00:01:00Z",
    "read": 5,
    "stored": 3,
    "known": 2,
}


@pytest.fixture
def backfill(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.0)

    def run(*arguments: str) -> Outcome:
        return cli("backfill", *arguments, url=cli.url, admin_key=ADMIN_KEY)

    return run


def backfill_list(*backfills: dict[str, Any]) -> CannedResponse:
    return CannedResponse(200, {"backfills": backfills})


def test_a_backfill_is_followed_until_it_finishes(backfill: Any, hogsend: FakeHogsend) -> None:
    hogsend.responses[START] = CannedResponse(200, RUNNING)
    hogsend.series[LIST] = [
        backfill_list(RUNNING),
        CannedResponse(503, {"error": "the provisioner service is not running"}),
        backfill_list({**ENDED, "id": "b-2"}, ENDED),
    ]
    outcome = backfill(*IMPORT, "--event", "signed_up")
    assert outcome.code == 0
    assert "finished events from 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z" in outcome.out
    assert "only signed_up" in outcome.out
    assert "5 of 5 read: 3 stored, 2 already stored, 0 rejected" in outcome.out
    assert hogsend.lines == [START, LIST, LIST, LIST]


def test_the_request_contains_the_span_the_events_and_announce(
    backfill: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[START] = CannedResponse(200, ENDED)
    names = ("--event", "b", "--event", "a", "--event", "b")
    assert backfill(*IMPORT, "--until", "2026-02-01", *names, "--announce").code == 0
    assert backfill(*IMPORT).code == 0
    since = "2026-01-01T00:00:00Z"
    assert [request.json for request in hogsend.requests] == [
        {"since": since, "until": "2026-02-01T00:00:00Z", "events": ["a", "b"], "announce": True},
        {"since": since},
    ]


def test_a_dry_run_of_a_backfill_counts_and_starts_nothing(
    backfill: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[COUNT] = CannedResponse(200, {"count": 5})
    assert "5 events in PostHog; nothing was started" in backfill(*IMPORT, "--dry-run").out
    assert backfill(*IMPORT, "--dry-run", "--json").json == {"count": 5}
    assert hogsend.lines == [COUNT, COUNT]


def test_a_detached_backfill_is_not_followed(backfill: Any, hogsend: FakeHogsend) -> None:
    hogsend.responses[START] = CannedResponse(200, RUNNING)
    outcome = backfill(*IMPORT, "--detach", "--json")
    assert (outcome.code, outcome.json["state"]) == (0, "running")
    assert hogsend.lines == [START]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_backfill_that_does_not_finish_fails_the_command(
    backfill: Any, hogsend: FakeHogsend, state: str
) -> None:
    ended = {**ENDED, "state": state, "detail": "PostHog answered 403", "remediation": "Grant it."}
    hogsend.responses[START] = CannedResponse(200, ended)
    outcome = backfill(*IMPORT)
    assert outcome.code == ExitCode.FAILED
    assert outcome.out.startswith(f"{state} ")
    assert "PostHog answered 403" in outcome.out
    assert "fix: Grant it." in outcome.out


def test_ctrl_c_stops_the_progress_display_and_not_the_backfill(
    backfill: Any, hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "follow", interrupt)
    hogsend.responses[START] = CannedResponse(200, RUNNING)
    outcome = backfill(*IMPORT)
    assert outcome.code == ExitCode.INTERRUPTED
    assert "the backfill continues on the server" in outcome.err
    assert hogsend.lines == [START]


def test_a_backfill_that_the_server_no_longer_lists_fails_with_a_fix(
    backfill: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[START] = CannedResponse(200, RUNNING)
    hogsend.responses[LIST] = backfill_list()
    outcome = backfill(*IMPORT)
    assert outcome.code == ExitCode.FAILED
    assert "no longer lists this backfill" in outcome.err
    assert "fix: start it again" in outcome.err


def test_status_lists_the_latest_backfills(backfill: Any, hogsend: FakeHogsend) -> None:
    hogsend.responses[LIST] = backfill_list(RUNNING, ENDED)
    outcome = backfill("status")
    assert outcome.code == 0
    states = [line.split()[0] for line in outcome.out.splitlines() if "events from" in line]
    assert states == ["running", "finished"]
    assert len(backfill("status", "--json").json["backfills"]) == 2
    hogsend.responses[LIST] = backfill_list()
    assert "no backfill was started yet" in backfill("status").out


def test_cancel_cancels_the_running_backfill_only(backfill: Any, hogsend: FakeHogsend) -> None:
    hogsend.responses[LIST] = backfill_list({**ENDED, "id": "b-2"}, RUNNING)
    hogsend.responses[CANCEL] = CannedResponse(200, {**ENDED, "state": "cancelled"})
    outcome = backfill("cancel")
    assert outcome.code == 0
    assert outcome.out.startswith("cancelled ")
    assert hogsend.lines == [LIST, CANCEL]
    hogsend.responses[LIST] = backfill_list(ENDED)
    refused = backfill("cancel")
    assert refused.code == ExitCode.FAILED
    assert "no backfill is running" in refused.err

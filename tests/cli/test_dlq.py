"""`hogsend dlq` against a fake server."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from cli.exit_codes import ExitCode
from tests.cli.fakes import ADMIN_KEY, FakeHogsend
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli, Outcome, run

LIST = "GET /v1/admin/deadletters?limit=50"
REPLAY = "POST /v1/admin/deadletters/replay"
PURGE = "POST /v1/admin/deadletters/purge"
LETTER = {
    "sequence": 7,
    "stream": "WEBHOOKS",
    "subject": "hogsend.webhooks.posthog",
    "reason": "malformed",
    "detail": "JSON is\nmalformed \u001b[31m",
    "attempts": 1,
    "failedAt": "2026-11-23T10:00:00.123456Z",
    "size": 8,
    "body": None,
    "cut": False,
}
EMPTY: dict[str, Any] = {"deadLetters": [], "total": 0, "nextBefore": None}
PAGE: dict[str, Any] = {"deadLetters": [LETTER], "total": 3, "nextBefore": 7}
DONE: dict[str, Any] = {"count": 2, "kept": [], "more": False}
KEPT = {"reason": "no_body", "detail": "it holds nothing", "count": 4, "firstSequence": 2}


def respond(hogsend: FakeHogsend, line: str, body: Any, status: int = 200) -> None:
    hogsend.responses[line] = CannedResponse(status, body)


class DlqCommand:
    """`hogsend dlq` in this process."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli

    def __call__(self, *arguments: str, key: str | None = ADMIN_KEY) -> Outcome:
        return self._cli("dlq", *arguments, url=self._cli.url, admin_key=key)


@pytest.fixture
def run_dlq(cli: Cli) -> DlqCommand:
    return DlqCommand(cli)


def test_an_empty_list_of_dead_letters_is_reported_on_stderr(
    run_dlq: DlqCommand, hogsend: FakeHogsend
) -> None:
    respond(hogsend, LIST, EMPTY)
    outcome = run_dlq("list")
    assert (outcome.code, outcome.out) == (0, "")
    assert "no dead letters" in outcome.err
    respond(hogsend, "GET /v1/admin/deadletters?reason=a+%26b&limit=50", EMPTY)
    assert "matches" in run_dlq("list", "--reason", "a &b").err


def test_output_to_a_pipe_has_one_line_for_each_dead_letter(
    run_dlq: DlqCommand, hogsend: FakeHogsend
) -> None:
    respond(hogsend, "GET /v1/admin/deadletters?stream=WEBHOOKS&limit=1&before=9", PAGE)
    outcome = run_dlq("list", "--stream", "WEBHOOKS", "--limit", "1", "--before", "9")
    assert outcome.code == 0
    (line,) = outcome.out.splitlines()
    *columns, detail = line.split("\t")
    assert columns == ["7", "2026-11-23 10:00:00", "WEBHOOKS", "malformed", "1", "8"]
    assert detail == "JSON is malformed [31m"
    assert "\x1b" not in outcome.everything
    assert "1 of 3 dead letters; next page: --before 7" in outcome.err


def test_a_table_of_dead_letters_fits_into_a_terminal_of_80_columns(
    run_dlq: DlqCommand, hogsend: FakeHogsend, terminal: io.StringIO
) -> None:
    long = {**LETTER, "detail": "x" * 500, "reason": "rejected_by_database"}
    respond(hogsend, LIST, {**PAGE, "deadLetters": [LETTER, long]})
    table = run_dlq("list").out
    assert "rejected_by_database" in table
    assert "2026-11-23 10:00:00" in table
    assert len(table.splitlines()) == 3


def test_json_output_is_the_servers_document(run_dlq: DlqCommand, hogsend: FakeHogsend) -> None:
    respond(hogsend, LIST, PAGE)
    assert run_dlq("list", "--json").json == PAGE
    respond(hogsend, "GET /v1/admin/deadletters/7", {**LETTER, "body": "nonsense"})
    assert run_dlq("show", "7", "--json").json == {**LETTER, "body": "nonsense"}
    respond(hogsend, REPLAY, DONE)
    assert run_dlq("replay", "--all", "--json").json == DONE
    respond(hogsend, PURGE, DONE)
    assert run_dlq("purge", "--all", "--yes", "--json").json == DONE


def test_a_dead_letter_is_shown_with_its_message(run_dlq: DlqCommand, hogsend: FakeHogsend) -> None:
    letter = {**LETTER, "body": '{"a":\n\u001b]0;owned\u0007[red]1}', "cut": True}
    respond(hogsend, "GET /v1/admin/deadletters/7", letter)
    outcome = run_dlq("show", "7")
    assert outcome.code == 0
    assert '{"a":\n]0;owned[red]1}' in outcome.out
    assert "hogsend.webhooks.posthog" in outcome.out
    assert "truncated" in outcome.err
    assert not {"\x1b", "\x07"} & set(outcome.everything)


@pytest.mark.parametrize(
    ("arguments", "selection"),
    [
        (["7"], {"sequence": 7}),
        (["--all"], {"all": True}),
        (["--reason", "malformed"], {"reason": "malformed"}),
        (["--stream", "WEBHOOKS", "--reason", "x"], {"stream": "WEBHOOKS", "reason": "x"}),
    ],
)
def test_replay_and_purge_send_exactly_the_given_selection(
    run_dlq: DlqCommand, hogsend: FakeHogsend, arguments: list[str], selection: dict[str, Any]
) -> None:
    respond(hogsend, REPLAY, DONE)
    respond(hogsend, PURGE, DONE)
    assert run_dlq("replay", *arguments).out == "replayed 2 dead letters\n"
    assert run_dlq("purge", *arguments, "--yes").out == "purged 2 dead letters\n"
    assert hogsend.lines == [REPLAY, PURGE]
    assert [request.json for request in hogsend.requests] == [selection, selection]


@pytest.mark.parametrize("arguments", [[], ["7", "--all"], ["--all", "--reason", "x"]])
@pytest.mark.parametrize("action", [["replay"], ["purge", "--yes"]])
def test_an_empty_or_ambiguous_selection_is_refused(
    run_dlq: DlqCommand, hogsend: FakeHogsend, action: list[str], arguments: list[str]
) -> None:
    outcome = run_dlq(*action, *arguments)
    assert outcome.code == 2
    assert "fix: give a sequence, --stream or --reason; or only --all" in outcome.err
    assert "--all" in run_dlq(*action, *arguments, "--json").json["fix"]
    assert hogsend.requests == []


def test_dead_letters_that_could_not_be_replayed_are_listed_and_fail_the_command(
    run_dlq: DlqCommand, hogsend: FakeHogsend
) -> None:
    respond(hogsend, REPLAY, {**DONE, "kept": [KEPT], "more": True})
    outcome = run_dlq("replay", "--all")
    assert outcome.code == 1
    assert "kept 4 dead letters, the oldest is 2: it holds nothing (no_body)" in outcome.out
    assert "run it again" in outcome.out


def test_a_purge_without_a_terminal_needs_yes(run_dlq: DlqCommand, hogsend: FakeHogsend) -> None:
    for more in ([], ["--json"]):
        outcome = run_dlq("purge", "--all", *more)
        assert outcome.code == 2
        assert "--yes" in outcome.everything
    assert hogsend.requests == []


@pytest.mark.parametrize(
    ("answer", "purged"),
    [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)],
)
def test_a_purge_asks_for_confirmation(
    run_dlq: DlqCommand, hogsend: FakeHogsend, terminal: io.StringIO, answer: str, purged: bool
) -> None:
    respond(hogsend, "GET /v1/admin/deadletters?reason=malformed&limit=1", PAGE)
    respond(hogsend, PURGE, DONE)
    terminal.write(answer)
    terminal.seek(0)
    outcome = run_dlq("purge", "--reason", "malformed")
    assert "Permanently delete 3 dead letters?" in outcome.out
    assert (PURGE in hogsend.lines) is purged
    assert outcome.code == (0 if purged else 1)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, {"error": "no dead letter 7 here"}, "404: no dead letter 7 here"),
        (
            400,
            {
                "success": False,
                "error": {
                    "name": "ZodError",
                    "message": json.dumps([{"message": "it stays", "path": [], "code": "custom"}]),
                },
            },
            "it stays",
        ),
        *(
            (
                400,
                {
                    "error": {
                        "name": "ZodError",
                        "message": json.dumps([{"message": reason, "path": ["a", 0]}]),
                    }
                },
                message,
            )
            for reason, message in (
                ("Required", "a.0: Required"),
                ("Expected `str` matching regex '^\\\\S'", "a.0: not in the required format"),
            )
        ),
        (400, {"error": {"name": "ZodError", "message": "{"}}, "status 400"),
        (503, {"error": "ingest is not running", "code": "unavailable"}, "ingest is not running"),
        (302, {}, "status 302"),
        (200, {"count": "many"}, "did not respond as a Hogsend server"),
    ],
)
def test_an_error_of_the_server_is_printed(
    run_dlq: DlqCommand, hogsend: FakeHogsend, status: int, body: Any, message: str
) -> None:
    respond(hogsend, REPLAY, body, status)
    outcome = run_dlq("replay", "7")
    # The server's 400 is a usage error.
    code = ExitCode.USAGE if status == 400 else ExitCode.FAILED
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err
    document = run_dlq("replay", "7", "--json")
    assert document.code == code
    assert message in document.json["error"]


def test_the_fix_for_a_missing_admin_key_names_its_variable(run_dlq: DlqCommand) -> None:
    outcome = run_dlq("list", key=None)
    assert outcome.code == 1
    assert "HOGSEND_ADMIN_KEY" in outcome.err


async def test_dlq_fails_with_the_same_exit_codes_in_a_process_of_its_own() -> None:
    unreachable, not_a_number, no_selection, not_a_url = await asyncio.gather(
        run("dlq", "list", "--url", "http://127.0.0.1:9"),
        run("dlq", "show", "seven"),
        run("dlq", "purge"),
        run("dlq", "list", "--url", "nowhere", "--json"),
    )
    assert (unreachable.code, unreachable.out) == (1, "")
    assert "no response" in unreachable.err
    assert (not_a_number.code, no_selection.code) == (2, 2)
    assert not_a_url.code == 2
    assert "not the URL" in not_a_url.json["error"]

"""`hogsend disconnect posthog` against a fake server."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.cli.fakes import ADMIN_KEY, FakeHogsend
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli, Outcome

DELETE = "DELETE /v1/admin/provider-credentials/posthog"


@pytest.fixture
def disconnect(cli: Cli) -> Any:
    def run(*arguments: str) -> Outcome:
        return cli("disconnect", *arguments, url=cli.url, admin_key=ADMIN_KEY)

    return run


@pytest.mark.parametrize(("answer", "deleted"), [("yes\n", True), ("no\n", False), ("", False)])
def test_disconnect_asks_for_confirmation(
    disconnect: Any, hogsend: FakeHogsend, terminal: io.StringIO, answer: str, deleted: bool
) -> None:
    hogsend.responses[DELETE] = CannedResponse(200, {"deleted": True})
    terminal.write(answer)
    terminal.seek(0)
    assert disconnect("posthog").code == (0 if deleted else 1)
    assert (DELETE in hogsend.lines) is deleted


def test_disconnect_without_a_terminal_needs_yes(disconnect: Any, hogsend: FakeHogsend) -> None:
    hogsend.responses[DELETE] = CannedResponse(200, {"deleted": True})
    assert disconnect("posthog").code == 2
    assert disconnect("posthog", "--json").code == 2
    assert hogsend.lines == []
    outcome = disconnect("posthog", "--yes")
    assert outcome.out == "deleted the credential of posthog\n"
    assert "disable the webhook destination in PostHog" in outcome.err
    assert disconnect("posthog", "--yes", "--json").json == {"deleted": True}


def test_disconnect_fails_with_a_fix_when_no_credential_is_stored(
    disconnect: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[DELETE] = CannedResponse(404, {"error": "Provider credential not found"})
    outcome = disconnect("posthog", "--yes")
    assert outcome.code == 1
    assert "no credential of posthog is stored" in outcome.err
    assert "hogsend connect posthog" in outcome.err


def test_a_404_of_another_server_is_not_reported_as_a_missing_credential(
    disconnect: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[DELETE] = CannedResponse(404, {"detail": "Not found."})
    outcome = disconnect("posthog", "--yes")
    assert outcome.code == 1
    assert "--url is a Hogsend server" in outcome.err


def test_disconnect_shows_the_detail_of_the_servers_error(
    disconnect: Any, hogsend: FakeHogsend
) -> None:
    hogsend.responses[DELETE] = CannedResponse(
        503, {"error": "unavailable", "detail": "no database"}
    )
    outcome = disconnect("posthog", "--yes")
    assert outcome.code == 1
    assert "no database" in outcome.err
    assert disconnect("mixpanel", "--yes").code == 2

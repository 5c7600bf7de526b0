"""`hogsend audit` against a fake server."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.cli.fakes import ADMIN_KEY, FakeHogsend
from tests.cli.recording_server import CannedResponse
from tests.cli.running import Cli

ENTRY: dict[str, Any] = {
    "id": "0197a1b2-7f3c-7000-8000-00000000000e",
    "at": "2026-11-25T12:00:00Z",
    "actor": "full-admin",
    "action": "provider-credentials.put",
    "resource": "posthog\u001b",
    "status": 200,
    "requestId": "r-1",
    "address": "192.0.2.1",
}


def answer(*entries: dict[str, Any], total: int, **more: Any) -> CannedResponse:
    found = {"entries": entries, "total": total, "limit": 50, "offset": 0, **more}
    return CannedResponse(200, found)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (answer(ENTRY, total=1), "1 request in all"),
        (answer(ENTRY, total=7, nextBefore="p2"), "1 of 7 requests; next page: --before p2"),
        (
            answer(ENTRY, total=20000, totalEstimated=True, nextBefore="p2"),
            "1 of about 20,000 requests; next page: --before p2",
        ),
    ],
)
def test_a_pipe_gets_a_line_for_each_request(
    cli: Cli, hogsend: FakeHogsend, found: CannedResponse, said: str
) -> None:
    hogsend.more["GET /v1/admin/audit?limit=50"] = found
    listed = cli("audit", url=cli.url, admin_key=ADMIN_KEY)
    assert listed.code == 0
    assert listed.out == (
        "2026-11-25 12:00:00\tfull-admin\tprovider-credentials.put\t200\tposthog\t192.0.2.1\tr-1\n"
    )
    assert said in listed.err


def test_filters_and_the_next_page(cli: Cli, hogsend: FakeHogsend) -> None:
    line = "GET /v1/admin/audit?action=a.put&actor=nats%3Aoperator&limit=2&before=p2"
    hogsend.more[line] = answer(total=3)
    flags = {"action": "a.put", "actor": "nats:operator", "limit": 2, "before": "p2"}
    outcome = cli("audit", url=cli.url, admin_key=ADMIN_KEY, **flags)
    assert (outcome.code, outcome.out) == (0, "")
    assert "this is the last page" in outcome.err
    document = cli("audit", url=cli.url, admin_key=ADMIN_KEY, json=True, **flags).json
    assert document["entries"] == []


def test_a_terminal_of_80_columns_shows_what_was_changed(
    cli: Cli, hogsend: FakeHogsend, terminal: io.StringIO
) -> None:
    longest = {**ENTRY, "action": "provider-credentials.delete"}
    hogsend.more["GET /v1/admin/audit?limit=50"] = answer(longest, total=1)
    _, line = cli("audit", url=cli.url, admin_key=ADMIN_KEY).out.splitlines()
    assert len(line) <= 80
    assert line.split() == [
        *("2026-11-25", "12:00:00", "full-admin"),
        *("provider-credentials.delete", "200", "posthog"),
    ]

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


def audit_page(*entries: dict[str, Any], total: int, **more: Any) -> CannedResponse:
    page = {"entries": entries, "total": total, "limit": 50, "offset": 0, **more}
    return CannedResponse(200, page)


@pytest.mark.parametrize(
    ("response", "summary"),
    [
        (audit_page(ENTRY, total=1), "1 request in all"),
        (audit_page(ENTRY, total=7, nextBefore="p2"), "1 of 7 requests; next page: --before p2"),
        (
            audit_page(ENTRY, total=20000, totalEstimated=True, nextBefore="p2"),
            "1 of about 20,000 requests; next page: --before p2",
        ),
    ],
)
def test_output_to_a_pipe_has_one_line_for_each_audited_request(
    cli: Cli, hogsend: FakeHogsend, response: CannedResponse, summary: str
) -> None:
    hogsend.responses["GET /v1/admin/audit?limit=50"] = response
    listed = cli("audit", url=cli.url, admin_key=ADMIN_KEY)
    assert listed.code == 0
    assert listed.out == (
        "2026-11-25 12:00:00\tfull-admin\tprovider-credentials.put\t200\tposthog\t192.0.2.1\tr-1\n"
    )
    assert summary in listed.err


def test_filters_and_the_cursor_are_sent_and_the_last_page_is_named(
    cli: Cli, hogsend: FakeHogsend
) -> None:
    line = "GET /v1/admin/audit?action=a.put&actor=nats%3Aoperator&limit=2&before=p2"
    hogsend.responses[line] = audit_page(total=3)
    flags = {"action": "a.put", "actor": "nats:operator", "limit": 2, "before": "p2"}
    outcome = cli("audit", url=cli.url, admin_key=ADMIN_KEY, **flags)
    assert (outcome.code, outcome.out) == (0, "")
    assert "this is the last page" in outcome.err
    document = cli("audit", url=cli.url, admin_key=ADMIN_KEY, json=True, **flags).json
    assert document["entries"] == []


def test_the_changed_resource_fits_into_a_terminal_of_80_columns(
    cli: Cli, hogsend: FakeHogsend, terminal: io.StringIO
) -> None:
    longest = {**ENTRY, "action": "provider-credentials.delete"}
    hogsend.responses["GET /v1/admin/audit?limit=50"] = audit_page(longest, total=1)
    _, line = cli("audit", url=cli.url, admin_key=ADMIN_KEY).out.splitlines()
    assert len(line) <= 80
    assert line.split() == [
        *("2026-11-25", "12:00:00", "full-admin"),
        *("provider-credentials.delete", "200", "posthog"),
    ]

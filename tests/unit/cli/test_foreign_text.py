"""Foreign text is printed without control characters and not interpreted as markup."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.console import Console

from cli.admin.messages import EventReplay
from cli.backfill import progress
from cli.commands.consumers import Consumer, show
from cli.commands.status import _table
from cli.console import out, print_json
from cli.events import replaying
from cli.health import Health
from cli.redaction import printable
from hogsend.contract.backfills import Backfill

MARKUP = "[/x][bold]b[/bold][link=http://evil.example]l"
CONTROL_CHARACTERS = "\x1b]0;owned\x07\x9b31m\u202e\u2066\u200f\u2028"


class Document(msgspec.Struct):
    """A JSON document with foreign text."""

    name: str


def test_control_characters_are_removed_from_printed_text() -> None:
    assert printable(f"a{CONTROL_CHARACTERS}b\n\tc") == "a]0;owned31mb\n\tc"


def test_control_characters_are_escaped_in_a_json_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json(Document(f"ü{CONTROL_CHARACTERS}\x7f"))
    shown = capsys.readouterr().out
    assert not [character for character in shown if character in "\x07\x1b\x7f\x9b"]
    assert "ü" in shown
    assert json.loads(shown) == {"name": f"ü{CONTROL_CHARACTERS}\x7f"}


def test_the_filter_of_a_consumer_is_not_interpreted_as_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    filters = [f"hogsend.events.{MARKUP}{CONTROL_CHARACTERS}"]
    show([Consumer("EVENTS", "mailer", True, filters, 1, 2)])  # noqa: FBT003
    shown = capsys.readouterr().out
    assert MARKUP in shown
    assert shown.startswith("EVENTS\tmailer\tdurable\t1\t2\thogsend.events.")
    assert "\x1b" not in shown


def test_the_name_of_a_service_is_not_interpreted_as_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    part = {"status": MARKUP, "latencyMs": 1.0}
    report = {
        "status": MARKUP,
        "uptime": 1.0,
        "version": "1",
        "components": {"database": part, "redis": part},
        "schema": {name: {"inSync": True, "pending": []} for name in ("engine", "client")},
        "services": {MARKUP: part | {"uptime": 900_000.0}},
    }
    out.print(_table("http://x.y", msgspec.convert(report, Health)))
    shown = capsys.readouterr().out
    assert shown.count("[/x]") >= 3
    assert "10 days" in shown


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The progress output on a terminal."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=200)
    monkeypatch.setattr(progress, "err", console)
    monkeypatch.setattr(replaying, "err", console)
    return output


def test_the_detail_of_a_backfill_is_not_interpreted_as_markup(terminal: io.StringIO) -> None:
    noon = datetime(2026, 1, 1, tzinfo=UTC)
    started = Backfill(
        *("1", "running", noon, noon, [], True, noon, None, noon, 2, 1, 1, 0, 0),
        detail=MARKUP,
    )
    ended = msgspec.structs.replace(started, state="done")
    client: Any = SimpleNamespace(backfills=lambda: SimpleNamespace(backfills=[ended]))
    progress.follow(client, started, lambda _seconds: None)
    assert MARKUP in terminal.getvalue()


def test_the_name_of_a_durable_is_not_interpreted_as_markup(
    terminal: io.StringIO,
) -> None:
    part = SimpleNamespace(id="1", after=None, waiting=0, count=1, left_out=0)
    client: Any = SimpleNamespace(replay_events=lambda _selection: part)
    replay = EventReplay(to=MARKUP, since="2026-01-01T00:00:00Z")
    state = replaying.ReplayProgress(MARKUP)
    replaying.replay_all(client, replay, state, lambda _seconds: None)
    assert MARKUP in terminal.getvalue()

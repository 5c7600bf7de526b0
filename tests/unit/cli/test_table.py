"""Tables on a terminal: every column is shown."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from cli.console import out
from cli.table import print_rows

HEADINGS = ("known as", "email")


def print_table(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    *rows: list[str],
) -> list[str]:
    monkeypatch.setattr(out, "_force_terminal", True)
    monkeypatch.setattr(out, "_width", width)
    monkeypatch.setattr(out, "_color_system", None)
    print_rows(HEADINGS, rows)
    return capsys.readouterr().out.splitlines()


def test_the_last_column_is_truncated_at_the_width_of_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of these characters takes two columns.
    rows = ["ユーザー", "x" * 99], ["u_1", "日" * 99]
    heading, *lines = print_table(capsys, monkeypatch, 40, *rows)
    assert heading == "known as  email"
    assert lines[0] == f"ユーザー  {'x' * 29}…"
    assert lines[1].startswith("u_1       日日")
    assert all(cell_len(line) <= 40 for line in lines)


def test_a_terminal_narrower_than_the_other_columns_wraps_the_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = print_table(capsys, monkeypatch, 40, ["u" * 50, "ada@example.com"])
    assert lines == [f"{'known as':50}  email", f"{'u' * 50}  ada@example.com"]

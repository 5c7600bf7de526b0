"""Texts are wrapped between words on a terminal, and not at all elsewhere."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from cli import confirmation, console
from cli.console import print_error, print_hanging

PROBLEM = (
    "unreachable: no response from http://127.0.0.1:3002 (no connection: nothing listens there, or "
    "the host name is not known)"
)
FIX = "start the server with `hogsend up`, or pass its URL as --url"


def output(*, is_terminal: bool, width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=width, color_system=None)


def text_of(output: Console) -> str:
    assert isinstance(output.file, io.StringIO)
    return output.file.getvalue()


def test_an_error_is_wrapped_between_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = output(is_terminal=True)
    monkeypatch.setattr(console, "err", terminal)
    print_error(PROBLEM, FIX)
    assert text_of(terminal).splitlines() == [
        "error: unreachable: no response from http://127.0.0.1:3002 (no connection:",
        "       nothing listens there, or the host name is not known)",
        f"  fix: {FIX}",
    ]


def test_an_error_is_one_line_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = output(is_terminal=False)
    monkeypatch.setattr(console, "err", pipe)
    print_error(PROBLEM, FIX)
    assert text_of(pipe) == f"error: {PROBLEM}\n  fix: {FIX}\n"


def test_the_lines_of_a_paragraph_start_at_its_indent() -> None:
    terminal = output(is_terminal=True)
    print_hanging(terminal, ("\nThe webhook is open: ", ""), "word " * 20, indent=0)
    blank, first, second = text_of(terminal).splitlines()
    assert (blank, first) == ("", "The webhook is open: " + " ".join(["word"] * 12))
    assert second == " ".join(["word"] * 8)


def test_a_long_mark_is_wrapped_with_its_paragraph() -> None:
    terminal = output(is_terminal=True, width=40)
    mark = "\nThe stored credential of PostHog cannot be read: "
    print_hanging(terminal, (mark, "bold"), "it was sealed with another secret", indent=2)
    assert text_of(terminal).splitlines() == [
        "",
        "The stored credential of PostHog cannot",
        "  be read: it was sealed with another",
        "  secret",
    ]


def test_a_question_is_wrapped_and_answered_on_its_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = output(is_terminal=True, width=40)
    monkeypatch.setattr(confirmation, "out", terminal)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert confirmation.confirm("Permanently erase Ada and everything about this person?")
    assert text_of(terminal) == ("Permanently erase Ada and everything\nabout this person? [y/N] ")


def test_a_command_in_a_text_is_not_broken() -> None:
    terminal = output(is_terminal=True)
    print_hanging(terminal, ("  fix: ", ""), f"first run `{' '.join(['command'] * 10)}` here")
    assert text_of(terminal).splitlines() == [
        "  fix: first run",
        f"       `{' '.join(['command'] * 10)}`",
        "       here",
    ]

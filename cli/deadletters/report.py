"""Print dead letters: as a table on a terminal, as tab-separated lines elsewhere."""

from __future__ import annotations

from rich.text import Text

from cli.console import err, out, print_hanging, quantity
from cli.redaction import printable
from cli.table import print_page_footer, print_rows
from hogsend.contract.dead_letters import DeadLetterPage, DeadLettersDone, ListedDeadLetter

_HEADINGS = ("seq", "failed at (UTC)", "stream", "reason", "detail")
_NARROW = len(_HEADINGS) - 1
_DONE = {"replay": "replayed", "purge": "purged"}


def show_page(page: DeadLetterPage, base_url: str, *, filtered: bool, first: bool) -> None:
    """Print a page of dead letters, and how to get the next page.

    Args:
        page: the page.
        base_url: URL of the server.
        filtered: whether the page was requested with a filter.
        first: whether it is the first page.
    """
    if not page.dead_letters:
        print_hanging(err, ("", ""), _empty_page(page, base_url, filtered=filtered, first=first))
        return
    piped = [_cells(letter) for letter in page.dead_letters]
    # Attempts and size do not fit into 80 columns; `show` prints them.
    rows = [[*cells[:_NARROW], cells[-1]] for cells in piped]
    print_rows(_HEADINGS, rows, piped=piped)
    shown = len(page.dead_letters)
    print_page_footer(shown, page.total, "dead letter", first=first, before=page.next_before)


def show_letter(letter: ListedDeadLetter) -> None:
    """Print one dead letter with its message."""
    rows = {
        "sequence": str(letter.sequence),
        "failed at": _time(letter),
        "stream": letter.stream,
        "subject": letter.subject,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": str(letter.attempts),
        "size": f"{letter.size} bytes",
    }
    for name, value in rows.items():
        print_hanging(out, (f"{name:<11}", "bold"), value)
    if not letter.size:
        print_hanging(out, ("\n", ""), "The message was too large to be kept.")
        return
    out.print(Text(f"\n{printable(letter.body or '')}"), soft_wrap=True)
    if letter.cut:
        print_hanging(
            err, ("note: ", "bold yellow"), "the message is truncated: it is too large to show"
        )


def show_done(done: DeadLettersDone, action: str) -> None:
    """Print the result of a replay or purge."""
    print_hanging(
        out, (f"{_DONE[action]} ", "bold green" if done.count else ""), letters(done.count)
    )
    for kept in done.kept:
        count = f"{letters(kept.count)}, the oldest is {kept.first_sequence}: "
        print_hanging(out, ("kept ", "bold yellow"), f"{count}{kept.detail} ({kept.reason})")
    if done.more:
        print_hanging(
            out, ("note: ", "bold yellow"), "stopped early; run it again for the remaining ones"
        )


def letters(count: int) -> str:
    """Return a number of dead letters as text."""
    return quantity(count, "dead letter")


def _empty_page(page: DeadLetterPage, base_url: str, *, filtered: bool, first: bool) -> str:
    if not first:
        return f"no further dead letters; {letters(page.total)} in all"
    if filtered:
        return f"no dead letter at {base_url} matches"
    return f"no dead letters at {base_url}"


def _cells(letter: ListedDeadLetter) -> list[str]:
    return [
        str(letter.sequence),
        _time(letter),
        letter.stream,
        letter.reason,
        str(letter.attempts),
        str(letter.size),
        letter.detail,
    ]


def _time(letter: ListedDeadLetter) -> str:
    return f"{letter.failed_at:%Y-%m-%d %H:%M:%S}"

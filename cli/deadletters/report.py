"""Print dead letters: as a table on a terminal, as tab-separated lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from cli.console import err, out
from cli.redaction import printable
from cli.terminal import print_hanging
from hogsend.contract.dead_letters import DeadLetterPage, DeadLettersDone, ListedDeadLetter

_HEADINGS = ("seq", "failed at (UTC)", "stream", "reason", "detail")
_NARROW = len(_HEADINGS) - 1
_GAP = 2
_DONE = {"replay": "replayed", "purge": "purged"}


def show_page(page: DeadLetterPage, base_url: str, *, filtered: bool, first: bool) -> None:
    """Print a page of letters, and how to get the next page."""
    if not page.dead_letters:
        print_hanging(err, ("", ""), _nothing(page, base_url, filtered=filtered, first=first))
        return
    if out.is_terminal:
        out.print(_table(page.dead_letters))
    else:
        for letter in page.dead_letters:
            out.file.write("\t".join(_cells(letter)) + "\n")  # rich would expand the tabs
    shown = len(page.dead_letters)
    if page.next_before is not None:
        more = f"{shown} of {letters(page.total)}; older ones: --before {page.next_before}"
        print_hanging(err, ("\n", ""), more)
    elif first:
        print_hanging(err, ("\n", ""), f"{letters(shown)} in all")
    else:
        print_hanging(err, ("\n", ""), f"{shown} of {letters(page.total)}; there are no older ones")


def show_letter(letter: ListedDeadLetter) -> None:
    """Print one letter with its message."""
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
        print_hanging(err, ("note: ", "bold yellow"), "truncated: the message is too large to show")


def show_done(done: DeadLettersDone, action: str) -> None:
    """Print the result of a replay or purge."""
    print_hanging(
        out, (f"{_DONE[action]} ", "bold green" if done.count else ""), letters(done.count)
    )
    for kept in done.kept:
        which = f"{letters(kept.count)}, the oldest is {kept.first_sequence}: "
        print_hanging(out, ("kept ", "bold yellow"), f"{which}{kept.detail} ({kept.reason})")
    if done.more:
        print_hanging(out, ("note: ", "bold yellow"), "stopped early; run it again for the rest")


def letters(count: int) -> str:
    """Format a number of dead letters."""
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _nothing(page: DeadLetterPage, base_url: str, *, filtered: bool, first: bool) -> str:
    if not first:
        return f"no older ones; {letters(page.total)} in all"
    if filtered:
        return f"no dead letter at {base_url} matches"
    return f"no dead letters at {base_url}"


def _table(found: Sequence[ListedDeadLetter]) -> Table:
    # Attempts and size are only in `show`: 80 columns have no room for them.
    rows = [[*cells[:_NARROW], cells[-1]] for cells in map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    table = Table(box=None, padding=(0, _GAP, 0, 0))
    for heading, width in zip(_HEADINGS, widths[:-1], strict=False):
        table.add_column(heading, min_width=width, no_wrap=True)
    table.add_column(_HEADINGS[-1], no_wrap=True)
    # rich would shrink all columns; only the detail is clipped, and `show` prints it whole.
    room = max(out.width - sum(widths[:-1]) - _GAP * len(widths), len(_HEADINGS[-1]))
    for *cells, detail in rows:
        clipped = Text(detail)
        clipped.truncate(room, overflow="ellipsis")
        table.add_row(*map(Text, cells), clipped)
    return table


def _cells(letter: ListedDeadLetter) -> list[str]:
    cells = [
        str(letter.sequence),
        _time(letter),
        letter.stream,
        letter.reason,
        str(letter.attempts),
        str(letter.size),
        letter.detail,
    ]
    # One line for each letter, whatever its text contains.
    return [" ".join(printable(cell).split()) for cell in cells]


def _time(letter: ListedDeadLetter) -> str:
    return f"{letter.failed_at:%Y-%m-%d %H:%M:%S}"

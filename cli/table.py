"""Print rows: as a table on a terminal, as lines of tab-separated columns elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from cli.console import counted, err, out
from cli.redaction import printable
from cli.terminal import print_hanging

_GAP = "  "

Row = Sequence[str]


def print_rows(
    headings: Sequence[str], rows: Sequence[Row], *, piped: Sequence[Row] | None = None
) -> None:
    """Print rows on stdout.

    Args:
        headings: of the table's columns. The last column is cut off where a terminal ends, unless
            that is before it: such a terminal wraps all lines.
        rows: of the table.
        piped: what is printed elsewhere than on a terminal, where it has more columns.
    """
    if out.is_terminal:
        _print_table(headings, [_on_one_line(row) for row in rows])
        return
    for row in rows if piped is None else piped:
        print_line(row)


def print_line(cells: Row) -> None:
    """Print one row at once, its columns separated by tabs."""
    # rich would expand the tabs.
    out.file.write("\t".join(_on_one_line(cells)) + "\n")
    out.file.flush()


def print_rest(
    shown: int,
    total: int,
    noun: str,
    *,
    first: bool,
    before: str | int | None,
    estimated: bool = False,
) -> None:
    """Print on stderr how many there are, and how to get the next page.

    Args:
        shown: rows of this page.
        total: of all pages.
        noun: what one row is, in the singular.
        first: whether it is the first page.
        before: the position of the next page; None on the last.
        estimated: whether `total` is.
    """
    all_of_them = f"about {total:,} {noun}s" if estimated else counted(total, noun)
    gap = "\n" if shown else ""
    if before is not None:
        text = f"{shown} of {all_of_them}; older ones: --before {before}"
    elif first:
        text = f"{counted(shown, noun)} in all" if shown else f"no {noun} matches"
    else:
        text = f"{shown} of {all_of_them}; there are no older ones"
    print_hanging(err, (gap, ""), text)


def _on_one_line(cells: Row) -> list[str]:
    return [" ".join(printable(cell).split()) for cell in cells]


def _print_table(headings: Row, rows: Sequence[Row]) -> None:
    # A table of rich's is never wider than the terminal: whole columns would be missing.
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    room = out.width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    for number, row in enumerate([headings, *rows]):
        *cells, text = row
        last = Text(text)
        if room >= cell_len(headings[-1]):
            last.truncate(room, overflow="ellipsis")
        padded = (set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=False))
        line = Text(_GAP).join([*map(Text, padded), last])
        out.print(line, style=None if number else "bold", soft_wrap=True)

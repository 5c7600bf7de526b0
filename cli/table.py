"""Print rows: as a table on a terminal, as tab-separated lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from cli.console import err, out, print_hanging, quantity
from cli.redaction import printable

_GAP = "  "

Row = Sequence[str]


def print_rows(
    headings: Sequence[str], rows: Sequence[Row], *, piped: Sequence[Row] | None = None
) -> None:
    """Print rows on stdout.

    Args:
        headings: of the table's columns. The last column is truncated to the terminal's width; on
            a terminal that is too narrow for the other columns nothing is truncated.
        rows: of the table.
        piped: rows for output that is not a terminal, where they have more columns than `rows`.
    """
    if out.is_terminal:
        _print_table(headings, [_on_one_line(row) for row in rows])
        return
    for row in rows if piped is None else piped:
        print_line(row)


def print_line(cells: Row) -> None:
    """Print one row, its columns separated by tabs, and flush."""
    # Not through rich, which expands tabs.
    out.file.write("\t".join(_on_one_line(cells)) + "\n")
    out.file.flush()


def print_page_footer(
    shown: int,
    total: int,
    noun: str,
    *,
    first: bool,
    before: str | int | None,
    estimated: bool = False,
) -> None:
    """Print on stderr how many rows exist, and how to get the next page.

    Args:
        shown: number of rows on this page.
        total: number of rows on all pages.
        noun: singular noun for a row.
        first: whether this is the first page.
        before: position of the next page; None on the last page.
        estimated: whether `total` is an estimate.
    """
    of_total = f"about {total:,} {noun}s" if estimated else quantity(total, noun)
    gap = "\n" if shown else ""
    if before is not None:
        text = f"{shown} of {of_total}; next page: --before {before}"
    elif first:
        text = f"{quantity(shown, noun)} in all" if shown else f"no {noun} matches"
    else:
        text = f"{shown} of {of_total}; this is the last page"
    print_hanging(err, (gap, ""), text)


def _on_one_line(cells: Row) -> list[str]:
    return [" ".join(printable(cell).split()) for cell in cells]


def _print_table(headings: Row, rows: Sequence[Row]) -> None:
    # Not rich's table, which drops whole columns on a narrow terminal.
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    last_width = out.width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    for number, row in enumerate([headings, *rows]):
        *cells, text = row
        last = Text(text)
        if last_width >= cell_len(headings[-1]):
            last.truncate(last_width, overflow="ellipsis")
        padded = (set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=False))
        line = Text(_GAP).join([*map(Text, padded), last])
        out.print(line, style=None if number else "bold", soft_wrap=True)

"""`hogsend spool`: read damaged files of a gateway's spool; see docs/durability.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cyclopts import App

from cli.errors import CommandError
from cli.flags import Flag
from services.gateway.webhooks.spool.salvage import Fragment, Salvaged, salvage

app = App(name="spool", help="Read damaged files that a gateway's spool has set aside.")


@app.command
def read(file: Path, *more: Path, json: Flag = False) -> int:  # noqa: ARG001 - of errors
    """Print the readable content of damaged spool files, one JSON document a line.

    Each line names its file as `file`. A complete webhook has `"found": "webhook"`, and
    `"published": true` if JetStream has it already. Other bytes have `"found": "damage"`, with the
    part of them that is text.

    Parameters
    ----------
    file
        A file in SPOOL_DIR/set-aside. Keep its original name, which is needed for its checksums.
    more
        Further files.
    json
        Print errors as JSON too.
    """
    encoder = msgspec.json.Encoder()
    for path in (file, *more):
        for piece in _pieces(path):
            line = {"file": path.name, **msgspec.to_builtins(piece)}
            sys.stdout.buffer.write(encoder.encode(line) + b"\n")
    sys.stdout.buffer.flush()
    return 0


def _pieces(path: Path) -> Iterator[Salvaged | Fragment]:
    try:
        yield from salvage(path)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read ({error.strerror})", "pass a file in SPOOL_DIR/set-aside"
        ) from error

"""`hogsend spool`: what a damaged file of a gateway's spool still holds; see docs/durability.md."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from cyclopts import App

from cli.errors import CommandError
from cli.flags import Flag
from services.gateway.webhooks.spool.salvage import salvage

app = App(name="spool", help="Look into files that a gateway's spool has set aside.")


@app.command
def read(file: Path, *more: Path, json: Flag = False) -> int:  # noqa: ARG001 - of errors
    """Print what files of the spool still hold: one line of JSON for each piece.

    Each line has the file's name as `file`. Webhooks that are whole are `"found": "webhook"`, with
    `"published": true` when they are in JetStream already. Bytes that are no whole webhook are
    `"found": "damage"`, with whatever of them is text.

    Parameters
    ----------
    file
        A file of SPOOL_DIR/set-aside. It keeps the name the gateway gave it, which is needed to
        check it.
    more
        More such files.
    json
        Print an error as JSON, too.
    """
    encoder = msgspec.json.Encoder()
    for path in (file, *more):
        try:
            for piece in salvage(path):
                line = {"file": path.name, **msgspec.to_builtins(piece)}
                sys.stdout.buffer.write(encoder.encode(line) + b"\n")
        except OSError as error:
            raise CommandError(
                f"{path} cannot be read ({error.strerror})", "name a file of SPOOL_DIR/set-aside"
            ) from error
    sys.stdout.buffer.flush()
    return 0

"""`hogsend compose`: a deployment with Compose, in the directory of `compose.yaml`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from cli.console import err, out, print_json
from cli.deployment import checking
from cli.deployment.compose import Compose
from cli.deployment.layout import Layout
from cli.deployment.moving import Move
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.stack.settings import problems

app = App(name="compose", help="Check, change and upgrade a deployment with Compose.")


class Checked(msgspec.Struct, frozen=True):
    """What `compose check --json` prints."""

    ok: bool = True


Json = Annotated[bool, Parameter(negative="", show_default=False)]
HERE = Path()


@app.command
def check(*, json: Json = False) -> int:
    """Check what .env says, before anything starts.

    Settings that containers would not get are refused, and so are wrong values and layouts that
    contradict themselves. `docker compose up` runs this first, as the service `settings`.

    Parameters
    ----------
    json
        Print one JSON document on stdout and nothing else.
    """
    wrong = [
        *checking.ignored(os.environ),
        *(checking.disagreements(os.environ) if os.environ.get("SEEN_NATS_CONFIG") else []),
        *problems(),
    ]
    if wrong:
        raise CommandError(
            "\n       ".join(wrong), "change it in .env, and start again", exit_code=ExitCode.USAGE
        )
    if json:
        print_json(Checked())
    else:
        out.print("the settings are in order")
    return 0


@app.command
def layout(layout: Layout, /, *, directory: Path = HERE, json: Json = False) -> int:
    """Choose between one NATS server (single) and three (cluster, with two of each service).

    Writes the layout into `.env`. Where there are streams already, they move along: they are saved,
    and restored on the servers of the new layout. Webhooks are accepted all the while. One that was
    interrupted goes on when it is run again.

    Parameters
    ----------
    layout
        single or cluster.
    directory
        Directory of compose.yaml.
    json
        Print one JSON document on stdout and nothing else.
    """
    moved = Move(Compose(directory), err.print).to(layout)
    if json:
        print_json(moved)
        return 0
    if moved.backup is None:
        out.print(f"the layout is {layout}; `docker compose up -d` starts it")
        return 0
    for one in moved.streams:
        out.print(f"{one.stream:<12}{one.messages:>9} messages")
    out.print(
        f"the layout is {layout}; the streams as they were are in {moved.backup}, and in the "
        "volumes of NATS: remove them when all is well",
        soft_wrap=True,
    )
    return 0

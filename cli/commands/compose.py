"""`hogsend compose`: a deployment with Compose, in the directory of `compose.yaml`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
from cyclopts import App

from cli.arguments import Directory
from cli.backup.asking import opening_key, sealing_key
from cli.backup.report import report, show_notes, shown
from cli.backup.whole import back_up, bring_back
from cli.console import err, out, print_json
from cli.deployment import checking
from cli.deployment.backup import ComposeSource, ComposeTarget
from cli.deployment.compose import deployment_in
from cli.deployment.layout import Layout
from cli.deployment.moving import Move
from cli.deployment.upgrading import Replaced, Upgrade
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.stack.settings import problems

app = App(name="compose", help="Check, change and upgrade a deployment with Compose.")


class Checked(msgspec.Struct, frozen=True):
    """What `compose check --json` prints."""

    ok: bool = True


class Upgraded(msgspec.Struct, frozen=True):
    """What `compose upgrade --json` prints."""

    replaced: list[Replaced]


HERE = Path()


@app.command
def check(*, json: Flag = False) -> int:
    """Check what .env says, before anything starts.

    Settings that containers would not get are refused, and so are wrong values and layouts that
    contradict themselves. `docker compose up` runs this first, as the service `settings`, and
    `docker compose logs settings` shows what it says.

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
def layout(layout: Layout, /, *, deployment: Directory = HERE, json: Flag = False) -> int:
    """Choose between one NATS server (single) and three (cluster, with two of each service).

    Writes the layout into `.env`. Where there are streams already, they move along: they are saved,
    and restored on the servers of the new layout. Webhooks are accepted all the while. One that was
    interrupted goes on when it is run again.

    Parameters
    ----------
    layout
        single or cluster.
    deployment
        Directory of compose.yaml.
    json
        Print one JSON document on stdout and nothing else.
    """
    moved = Move(deployment_in(deployment), err.print).to(layout)
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


@app.command
def upgrade(*, build: bool = True, deployment: Directory = HERE, json: Flag = False) -> int:
    """Replace one container after the other by one of the current version.

    The next is only replaced when the one before works. With two gateways, behind a proxy that asks
    the second while the first restarts, no webhook is refused.

    Parameters
    ----------
    build
        Build the image of this checkout first; --no-build takes the one in HOGSEND_IMAGE.
    deployment
        Directory of compose.yaml.
    json
        Print one JSON document on stdout and nothing else.
    """
    replaced = Upgrade(deployment_in(deployment), err.print).run(build=build)
    if json:
        print_json(Upgraded(replaced))
        return 0
    for one in replaced:
        out.print(f"{one.service:<16}{one.seconds:>6.1f} s")
    return 0


@app.command
def backup(
    directory: Directory,
    /,
    *,
    recipient: str | None = None,
    passphrase_file: Path | None = None,
    deployment: Directory = HERE,
    json: Flag = False,
) -> int:
    """Back up streams, PostgreSQL, settings and secrets while everything runs.

    Everything that was accepted before it began is in it, but for webhooks that wait in the spool
    of a gateway: it waits for these, and says how many are left. It is sealed in the format of age,
    for a passphrase or a public key; only its owner can read the files. It overwrites nothing.

    Parameters
    ----------
    directory
        New directory to write to.
    recipient
        age public key (age1...) to seal it for, instead of a passphrase.
    passphrase_file
        File with the passphrase. Without it, it is HOGSEND_BACKUP_PASSPHRASE, or asked for.
    deployment
        Directory of compose.yaml.
    json
        Print one JSON document on stdout and nothing else.
    """
    source = ComposeSource(deployment_in(deployment))
    key = sealing_key(passphrase_file, recipient)
    with shown("saving") as progress:
        manifest = asyncio.run(back_up(source, directory, key, progress))
    return report(manifest, directory, "saved to", json=json)


@app.command
def restore(
    directory: Directory,
    /,
    *,
    identity: Path | None = None,
    passphrase_file: Path | None = None,
    deployment: Directory = HERE,
    json: Flag = False,
) -> int:
    """Restore a backup where no service has run yet.

    NATS and PostgreSQL run afterwards; `docker compose up -d` starts the rest. Secrets and .env
    come from the backup, the layout included.

    Parameters
    ----------
    directory
        Directory that `hogsend compose backup` wrote.
    identity
        File with the age private key to open it with, instead of a passphrase.
    passphrase_file
        File with the passphrase. Without it, it is HOGSEND_BACKUP_PASSPHRASE, or asked for.
    deployment
        Directory of compose.yaml.
    json
        Print one JSON document on stdout and nothing else.
    """
    target = ComposeTarget(deployment_in(deployment))
    key = opening_key(passphrase_file, identity)
    with shown("restoring") as progress:
        manifest = asyncio.run(bring_back(target, directory, key, progress))
    show_notes(target.notes)
    return report(manifest, directory, "restored from", json=json)

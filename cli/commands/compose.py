"""`hogsend compose`: manage a deployment with Compose, in the directory of `compose.yaml`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
from cyclopts import App

from cli.arguments import Directory
from cli.backup.archive import create_backup, restore_backup
from cli.backup.passphrase import opening_key, sealing_key
from cli.backup.report import report, show_notes, show_progress
from cli.console import err, out, print_json
from cli.deployment import env_check
from cli.deployment.backup import ComposeSource, ComposeTarget
from cli.deployment.compose import deployment_in
from cli.deployment.layout import Layout
from cli.deployment.layout_move import Move
from cli.deployment.rolling_upgrade import Replaced, Upgrade
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.stack.settings import problems

app = App(
    name="compose",
    help="Check, change, upgrade, back up and restore a deployment with Compose.",
)


class Checked(msgspec.Struct, frozen=True):
    """The JSON document of `compose check`."""

    ok: bool = True


class Upgraded(msgspec.Struct, frozen=True):
    """The JSON document of `compose upgrade`."""

    replaced: list[Replaced]


HERE = Path()


@app.command
def check(*, json: Flag = False) -> int:
    """Check the settings in .env before the deployment starts.

    Refuses settings that no container would receive, invalid values, and layout settings that
    contradict each other. `docker compose up` runs this check first, as the service `settings`;
    `docker compose logs settings` shows its output.

    Parameters
    ----------
    json
        Print one JSON document on stdout and nothing else.
    """
    invalid = [
        *env_check.ignored(os.environ),
        *(env_check.disagreements(os.environ) if os.environ.get("SEEN_NATS_CONFIG") else []),
        *problems(),
    ]
    if invalid:
        raise CommandError(
            "\n".join(invalid), "correct .env, then start again", exit_code=ExitCode.USAGE
        )
    if json:
        print_json(Checked())
    else:
        out.print("the settings are valid")
    return 0


@app.command
def layout(layout: Layout, /, *, deployment: Directory = HERE, json: Flag = False) -> int:
    """Change the layout: one NATS server (single), or three and two of each service (cluster).

    Writes the layout into `.env`. Existing streams are saved and restored on the NATS servers of
    the new layout; the gateways accept webhooks meanwhile. If the command was interrupted, run it
    again to continue.

    Parameters
    ----------
    layout
        The new layout: single or cluster.
    deployment
        Directory with compose.yaml.
    json
        Print one JSON document on stdout and nothing else.
    """
    moved = Move(deployment_in(deployment), err.print).to(layout)
    if json:
        print_json(moved)
        return 0
    if moved.backup is None:
        out.print(f"the layout is {layout}; start it with `docker compose up -d`")
        return 0
    for one in moved.streams:
        out.print(f"{one.stream:<12}{one.messages:>9} messages")
    out.print(
        f"the layout is {layout}. The previous streams are kept in {moved.backup} and in the "
        "volumes of NATS: remove both once everything works",
        soft_wrap=True,
    )
    return 0


@app.command
def upgrade(*, build: bool = True, deployment: Directory = HERE, json: Flag = False) -> int:
    """Upgrade the deployment: replace its containers one after the other.

    A container is replaced only once the previous one is healthy. No webhook is refused if there
    are two gateways behind a proxy that sends requests to the second while the first restarts.

    Parameters
    ----------
    build
        Build the image from this checkout first. --no-build uses the image in HOGSEND_IMAGE.
    deployment
        Directory with compose.yaml.
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
    """Back up streams, PostgreSQL, settings and secrets while the deployment runs.

    The backup has everything that was accepted before it started, except webhooks in a gateway's
    spool: the command first waits until the spools are empty, and reports how many webhooks remain
    after 30 seconds. The backup is encrypted with age, for a passphrase or a public key, and only
    its owner can read the files. Nothing is overwritten.

    Parameters
    ----------
    directory
        New directory to write to.
    recipient
        age public key (age1...) to encrypt for, instead of a passphrase.
    passphrase_file
        File with the passphrase. Default: HOGSEND_BACKUP_PASSPHRASE, else a prompt.
    deployment
        Directory with compose.yaml.
    json
        Print one JSON document on stdout and nothing else.
    """
    source = ComposeSource(deployment_in(deployment))
    key = sealing_key(passphrase_file, recipient)
    with show_progress("saving") as progress:
        manifest = asyncio.run(create_backup(source, directory, key, progress))
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
    """Restore a backup into a new deployment, whose volumes must be empty.

    Restores .env with the layout, and the secrets, then starts NATS and PostgreSQL and fills them.
    Start the services with `docker compose up -d` afterwards.

    Parameters
    ----------
    directory
        Directory that `hogsend compose backup` wrote.
    identity
        File with the age private key, for a backup that was made with --recipient.
    passphrase_file
        File with the passphrase. Default: HOGSEND_BACKUP_PASSPHRASE, else a prompt.
    deployment
        Directory with compose.yaml.
    json
        Print one JSON document on stdout and nothing else.
    """
    target = ComposeTarget(deployment_in(deployment))
    key = opening_key(passphrase_file, identity)
    with show_progress("restoring") as progress:
        manifest = asyncio.run(restore_backup(target, directory, key, progress))
    show_notes(target.notes)
    return report(manifest, directory, "restored from", json=json)

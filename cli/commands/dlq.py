"""`hogsend dlq`: list, show, replay and purge dead letters; see `docs/deadletters.md`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.confirmation import confirm, require_terminal
from cli.console import out, print_hanging, print_json
from cli.deadletters import report
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import resolve
from cli.server_options import DEFAULT_SERVER, Server, request
from hogsend.contract.dead_letters import DeadLettersDone

_POSITIVE = Number(gte=1, lt=2**63)
Sequence = Annotated[
    int, Parameter(validator=_POSITIVE, help="Number of the dead letter, as `list` shows it.")
]
All = Annotated[Flag, Parameter(help="Select every dead letter.")]

app = App(
    name="dlq",
    help="List, show, replay and purge dead letters, which are messages that failed.",
)


@Parameter(name="*")
@dataclass(frozen=True)
class Filter:
    """Filter of dead letters.

    Parameters
    ----------
    stream
        Only dead letters from this stream, for example WEBHOOKS.
    reason
        Only dead letters with this reason, for example malformed.
    """

    stream: str | None = None
    reason: str | None = None


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The dead letters to replay or purge, as the server expects it."""

    sequence: int | None = None
    stream: str | None = None
    reason: str | None = None
    all: bool = False


@app.command(name="list")
def list_(
    *,
    filter: Filter = Filter(),
    limit: Annotated[
        int,
        Parameter(validator=Number(gte=1, lte=100), help="Maximum number of dead letters to list."),
    ] = 50,
    before: Annotated[
        int | None,
        Parameter(
            validator=_POSITIVE,
            help="Continue a list: the position that the previous page printed.",
        ),
    ] = None,
    server: Server = DEFAULT_SERVER,
) -> int:
    """List dead letters, newest first.

    In a pipe each dead letter is one line with columns separated by tabs, with its attempts and its
    size in bytes, which a terminal has no columns for.
    """
    page = request(
        server, lambda client: client.dead_letters(filter.stream, filter.reason, limit, before)
    )
    if server.json:
        print_json(page)
    else:
        filtered = filter != Filter()
        base_url = resolve(server.url, server.admin_key).base_url
        report.show_page(page, base_url, filtered=filtered, first=before is None)
    return 0


@app.command
def show(sequence: Sequence, *, server: Server = DEFAULT_SERVER) -> int:
    """Show one dead letter and its message."""
    letter = request(server, lambda client: client.dead_letter(sequence))
    if server.json:
        print_json(letter)
    else:
        report.show_letter(letter)
    return 0


@app.command
def replay(
    sequence: Sequence | None = None,
    *,
    filter: Filter = Filter(),
    all: All = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Publish dead letters to their streams again; exits with 1 if some were not replayed.

    A message that fails again becomes a new dead letter.
    """
    selection = Selection(sequence, filter.stream, filter.reason, all)
    _require_unambiguous(selection)
    return _change(server, "replay", selection)


@app.command
def purge(
    sequence: Sequence | None = None,
    *,
    filter: Filter = Filter(),
    all: All = False,
    yes: Annotated[Flag, Parameter(help="Skip the confirmation.")] = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Permanently delete dead letters and their messages, after a confirmation."""
    selection = Selection(sequence, filter.stream, filter.reason, all)
    _require_unambiguous(selection)
    if not yes:
        require_terminal("a purge", json=server.json)
        count = _matching(server, selection)
        if count and not confirm(f"Permanently delete {report.letters(count)}?"):
            print_hanging(out, ("", ""), "nothing was purged")
            return 1
    return _change(server, "purge", selection)


def _change(server: Server, action: Literal["replay", "purge"], selection: Selection) -> int:
    body = msgspec.json.encode(selection)
    done = request(server, lambda client: client.change_dead_letters(action, body))
    if server.json:
        print_json(done)
    else:
        report.show_done(done, action)
    return 0 if _is_complete(done) else 1


def _is_complete(done: DeadLettersDone) -> bool:
    return not done.kept and not done.more


def _require_unambiguous(selection: Selection) -> None:
    """Check that either a filter or `--all` is given."""
    filtered = (selection.sequence, selection.stream, selection.reason) != (None, None, None)
    if filtered == selection.all:
        raise CommandError(
            "no dead letters are selected"
            if not filtered
            else "--all cannot be combined with a sequence, --stream or --reason",
            "give a sequence, --stream or --reason; or only --all",
            exit_code=ExitCode.USAGE,
        )


def _matching(server: Server, selection: Selection) -> int:
    if selection.sequence is not None:
        # Fails with a 404 if there is no such dead letter.
        request(server, lambda client: client.dead_letter(selection.sequence or 0))
        return 1
    page = request(
        server, lambda client: client.dead_letters(selection.stream, selection.reason, 1)
    )
    return page.total

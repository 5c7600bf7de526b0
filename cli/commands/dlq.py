"""`hogsend dlq`: list, show, replay and purge dead letters; see `docs/deadletters.md`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.admin_client import AdminClient, AdminError
from cli.console import out, print_error, print_json
from cli.deadletters import report
from cli.errors import CommandError, CommandFailed
from cli.server_address import ServerAddress, admin_key_hint, resolve
from cli.terminal import Terminal, print_hanging
from hogsend.contract.dead_letters import DeadLettersDone

Answer = TypeVar("Answer", bound=msgspec.Struct)
_POSITIVE = Number(gte=1, lt=2**63)
Sequence = Annotated[
    int, Parameter(validator=_POSITIVE, help="Number of one dead letter, as `list` shows it.")
]
Everything = Annotated[bool, Parameter(negative="", show_default=False, help="Every dead letter.")]

_USAGE = 2
_UNAUTHORIZED = 401

app = App(name="dlq", help="Look at messages that could not be processed, and replay them.")


@Parameter(name="*")
@dataclass(frozen=True)
class Server:
    """The server, and the output format.

    Parameters
    ----------
    url
        Address of the Hogsend server; HOGSEND_API_URL, else http://localhost:3002.
    admin_key
        Its admin key; HOGSEND_ADMIN_KEY or ADMIN_API_KEY, in the environment or ./.env.
    json
        Print one JSON document on stdout and nothing else.
    """

    url: str | None = None
    admin_key: str | None = None
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False


@Parameter(name="*")
@dataclass(frozen=True)
class Filter:
    """A filter of dead letters.

    Parameters
    ----------
    stream
        Only those from this stream, for example WEBHOOKS.
    reason
        Only those with this reason, for example malformed.
    """

    stream: str | None = None
    reason: str | None = None


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The letters to replay or purge, as the server expects it."""

    sequence: int | None = None
    stream: str | None = None
    reason: str | None = None
    all: bool = False


@app.command(name="list")
def list_(
    *,
    filter: Filter = Filter(),
    limit: Annotated[
        int, Parameter(validator=Number(gte=1, lte=100), help="How many at most.")
    ] = 50,
    before: Annotated[
        int | None,
        Parameter(validator=_POSITIVE, help="Only older ones, to continue after a page."),
    ] = None,
    server: Server = Server(),
) -> int:
    """List dead letters, newest first."""
    page = _ask(
        server, lambda client: client.dead_letters(filter.stream, filter.reason, limit, before)
    )
    if page is None:
        return 1
    if server.json:
        print_json(page)
    else:
        filtered = filter != Filter()
        base_url = resolve(server.url, server.admin_key).base_url
        report.show_page(page, base_url, filtered=filtered, first=before is None)
    return 0


@app.command
def show(sequence: Sequence, *, server: Server = Server()) -> int:
    """Show one dead letter and its message."""
    letter = _ask(server, lambda client: client.dead_letter(sequence))
    if letter is None:
        return 1
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
    all: Everything = False,
    server: Server = Server(),
) -> int:
    """Publish dead letters to their streams again; exits with 1 when some could not be.

    A message that fails again becomes a new dead letter.
    """
    selection = Selection(sequence, filter.stream, filter.reason, all)
    if not _is_unambiguous(selection, server):
        return _USAGE
    return _change(server, "replay", selection)


@app.command
def purge(
    sequence: Sequence | None = None,
    *,
    filter: Filter = Filter(),
    all: Everything = False,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Do not ask.")] = False,
    server: Server = Server(),
) -> int:
    """Delete dead letters and their messages permanently; asks first."""
    selection = Selection(sequence, filter.stream, filter.reason, all)
    if not _is_unambiguous(selection, server):
        return _USAGE
    if not yes:
        if not Terminal(json=server.json).interactive:
            _print_problem(
                server, "a purge asks first, and there is no terminal to ask on", "add --yes"
            )
            return _USAGE
        count = _matching(server, selection)
        if count is None:
            return 1
        if count and not _confirmed(count):
            print_hanging(out, ("", ""), "nothing was purged")
            return 1
    return _change(server, "purge", selection)


def _change(server: Server, action: Literal["replay", "purge"], selection: Selection) -> int:
    wanted = msgspec.json.encode(selection)
    done = _ask(server, lambda client: client.change_dead_letters(action, wanted))
    if done is None:
        return 1
    if server.json:
        print_json(done)
    else:
        report.show_done(done, action)
    return 0 if _is_complete(done) else 1


def _is_complete(done: DeadLettersDone) -> bool:
    return not done.kept and not done.more


def _is_unambiguous(selection: Selection, server: Server) -> bool:
    """Whether a filter or `--all` is given, and not both; prints the problem otherwise."""
    filtered = (selection.sequence, selection.stream, selection.reason) != (None, None, None)
    if filtered != selection.all:
        return True
    _print_problem(
        server,
        "it is not clear which dead letters are meant",
        "give a sequence, --stream or --reason, or --all alone",
    )
    return False


def _matching(server: Server, selection: Selection) -> int | None:
    if selection.sequence is not None:
        letter = _ask(server, lambda client: client.dead_letter(selection.sequence or 0))
        return None if letter is None else 1
    page = _ask(server, lambda client: client.dead_letters(selection.stream, selection.reason, 1))
    return None if page is None else page.total


def _confirmed(count: int) -> bool:
    out.print(f"Delete {report.letters(count)} permanently? [y/N] ", end="", markup=False)
    try:
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    except KeyboardInterrupt:
        out.print()
        return False


def _ask(server: Server, question: Callable[[AdminClient], Answer]) -> Answer | None:
    """Return the server's answer; print the problem and return None if there is none."""
    try:
        address = resolve(server.url, server.admin_key)
    except CommandError as error:
        _print_problem(server, str(error), error.fix)
        return None
    terminal = Terminal(json=server.json)
    if address.is_plaintext and address.admin_key is not None:
        terminal.warn(
            f"{address.base_url} is plain http: the admin key travels unencrypted; use https"
        )
    try:
        with AdminClient(address) as client, terminal.busy(f"asking {address.base_url}"):
            return question(client)
    except AdminError as error:
        _print_problem(server, _problem(error), _fix(error, address))
        return None


def _problem(error: AdminError) -> str:
    return f"{error}: {error.detail}" if error.detail else str(error)


def _fix(error: AdminError, address: ServerAddress) -> str | None:
    if error.status is None:
        return "start it with `hogsend up`, or give the right address with --url"
    if error.status == _UNAUTHORIZED:
        return admin_key_hint(address)
    return error.remediation


def _print_problem(server: Server, problem: str, fix: str | None) -> None:
    if server.json:
        print_json(CommandFailed(error=f"{problem}; {fix}" if fix else problem))
    else:
        print_error(problem, fix)

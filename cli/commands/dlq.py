"""`hogsend dlq`: list, show, replay and purge dead letters; see `docs/deadletters.md`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.connect.server import HogsendServer, ServerRefused
from cli.connect.target import Target, how_to_give_a_key, resolve
from cli.connect.verdicts import Broken
from cli.connect.voice import Voice, hanging
from cli.console import complain, out, print_json
from cli.deadletters import report
from cli.errors import CommandError
from hogsend.contract.dead_letters import DeadLettersDone

Answer = TypeVar("Answer", bound=msgspec.Struct)
_POSITIVE = Number(gte=1, lt=2**63)
Sequence = Annotated[
    int, Parameter(validator=_POSITIVE, help="Number of one dead letter, as `list` shows it.")
]
Everything = Annotated[
    bool, Parameter(negative="", show_default=False, help="Every dead letter there is.")
]

_USAGE = 2
_UNAUTHORIZED = 401

app = App(name="dlq", help="Look at messages that could not be processed, and replay them.")


@Parameter(name="*")
@dataclass(frozen=True)
class Server:
    """Which server, and how to answer.

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
    """Which dead letters.

    Parameters
    ----------
    stream
        Only those that came from this stream, for example WEBHOOKS.
    reason
        Only those with this reason, for example malformed.
    """

    stream: str | None = None
    reason: str | None = None


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which letters to replay or purge, as the server takes it."""

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
        Parameter(validator=_POSITIVE, help="Only older ones: to go on after a page."),
    ] = None,
    server: Server = Server(),
) -> int:
    """List dead letters, newest first."""
    page = _ask(
        server, lambda there: there.dead_letters(filter.stream, filter.reason, limit, before)
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
    letter = _ask(server, lambda there: there.dead_letter(sequence))
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
    """Put dead letters back on the streams they came from; exits with 1 when some had to stay.

    What fails again comes back as a new dead letter.
    """
    selection = Selection(sequence, filter.stream, filter.reason, all)
    if not _clear(selection, server):
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
    """Forget dead letters and their messages for good; asks before it does."""
    selection = Selection(sequence, filter.stream, filter.reason, all)
    if not _clear(selection, server):
        return _USAGE
    if not yes:
        if not Voice(json=server.json).interactive:
            _refuse(server, "a purge asks first, and nobody is there to be asked", "add --yes")
            return _USAGE
        count = _matching(server, selection)
        if count is None:
            return 1
        if count and not _confirmed(count):
            hanging(out, ("", ""), "nothing was purged")
            return 1
    return _change(server, "purge", selection)


def _change(server: Server, action: Literal["replay", "purge"], selection: Selection) -> int:
    wanted = msgspec.json.encode(selection)
    done = _ask(server, lambda there: there.change_dead_letters(action, wanted))
    if done is None:
        return 1
    if server.json:
        print_json(done)
    else:
        report.show_done(done, action)
    return 0 if _complete(done) else 1


def _complete(done: DeadLettersDone) -> bool:
    return not done.kept and not done.more


def _clear(selection: Selection, server: Server) -> bool:
    """Whether it is said which letters are meant: everything only when it is said so."""
    filtered = (selection.sequence, selection.stream, selection.reason) != (None, None, None)
    if filtered != selection.all:
        return True
    _refuse(
        server,
        "it is not clear which dead letters",
        "give a sequence, --stream or --reason, or --all alone",
    )
    return False


def _matching(server: Server, selection: Selection) -> int | None:
    if selection.sequence is not None:
        letter = _ask(server, lambda there: there.dead_letter(selection.sequence or 0))
        return None if letter is None else 1
    page = _ask(server, lambda there: there.dead_letters(selection.stream, selection.reason, 1))
    return None if page is None else page.total


def _confirmed(count: int) -> bool:
    out.print(f"Forget {report.letters(count)} for good? [y/N] ", end="", markup=False)
    try:
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    except KeyboardInterrupt:
        out.print()
        return False


def _ask(server: Server, question: Callable[[HogsendServer], Answer]) -> Answer | None:
    """The server's answer; None when there is none, which is said then."""
    try:
        target = resolve(server.url, server.admin_key)
    except CommandError as error:
        _refuse(server, str(error), error.fix)
        return None
    voice = Voice(json=server.json)
    if target.plaintext and target.admin_key is not None:
        voice.warn(f"{target.base_url} is plain http: the admin key travels unencrypted; use https")
    try:
        with HogsendServer(target) as there, voice.busy(f"asking {target.base_url}"):
            return question(there)
    except ServerRefused as refused:
        _refuse(server, _problem(refused), _fix(refused, target))
        return None


def _problem(refused: ServerRefused) -> str:
    return f"{refused}: {refused.detail}" if refused.detail else str(refused)


def _fix(refused: ServerRefused, target: Target) -> str | None:
    if refused.status is None:
        return "start it with `hogsend up`, or name the right address with --url"
    if refused.status == _UNAUTHORIZED:
        return how_to_give_a_key(target)
    return refused.remediation


def _refuse(server: Server, problem: str, fix: str | None) -> None:
    if server.json:
        print_json(Broken(error=f"{problem}; {fix}" if fix else problem))
    else:
        complain(problem, fix)

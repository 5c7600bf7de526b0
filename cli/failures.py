"""The one place where a command that failed says so: `error:` and `fix:`, or one JSON document."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence

from cyclopts import CycloptsError

from cli.console import json_printed, print_error, print_json
from cli.errors import CommandError, CommandFailed
from cli.exit_codes import ExitCode

TRACEBACK = "HOGSEND_TRACEBACK"
"""Environment variable that shows the traceback of whatever ends a command."""

_WANTING_JSON = frozenset({"--json", "--json=true", "--json=yes", "--json=1"})
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
_UNCONVERTED = re.compile(r'unable to convert "(.*)" into (\w+)', re.DOTALL)
_CLASS_NAMES = re.compile(
    r"\b(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Timeout)\b(?:: |(?=\)))|\[Errno \d+\] "
)
_NOT_LISTENING = re.compile(r"Connect call failed \('([^']*)', (\d+)[^)]*\)")
_UNUSED = re.compile(r"Unused Tokens: \[(.*)\]\.?", re.DOTALL)


def guarded(command: Callable[[], object], tokens: Sequence[str]) -> int:
    """Run a command and return its exit code, whatever happens.

    Args:
        command: returns its exit code.
        tokens: what it was called with.
    """
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return ExitCode.CLOSED_PIPE
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(TRACEBACK):
            raise
        return _report(_as_command_error(error, tokens), as_json=wants_json(tokens))
    return code if isinstance(code, int) else ExitCode.OK


def _as_command_error(error: BaseException, tokens: Sequence[str]) -> CommandError:
    match error:
        case CommandError():
            return error
        case CycloptsError():
            return _usage(error, tokens)
        case KeyboardInterrupt():
            return CommandError("interrupted", "run it again", exit_code=ExitCode.INTERRUPTED)
        case UnicodeEncodeError():
            return CommandError(
                "an argument, or a setting, is no text in UTF-8",
                "write it in UTF-8, where LANG is such a locale, for example C.UTF-8",
                exit_code=ExitCode.USAGE,
            )
        case OSError():
            return _from_system(error)
    return _fault(error)


def wants_json(tokens: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, even one that cannot be parsed otherwise."""
    return any(word.lower() in _WANTING_JSON for word in tokens)


def _report(error: CommandError, *, as_json: bool) -> int:
    problem, fix = _plain(error.problem), _plain(error.fix)
    try:
        # A command that had printed its document, and failed after that, has no second one.
        if as_json and not json_printed():
            print_json(CommandFailed(problem, fix))
        else:
            print_error(problem, fix)
    except OSError:
        # There is nowhere left to say it: the exit code does.
        pass
    # What stdout did not take may still be in its buffer.
    _discard_output()
    return error.exit_code


def _plain(text: str) -> str:
    """Leave out the names of Python's classes, with which libraries begin their texts.

    What is no text is escaped: arguments and names of files can be any bytes.
    """
    text = text.encode(errors="backslashreplace").decode()
    named = _NOT_LISTENING.sub(r"nothing listens at \1:\2", text)
    return _CLASS_NAMES.sub("", named).replace(" ()", "")


def _usage(error: CycloptsError, tokens: Sequence[str]) -> CommandError:
    text = _UNCONVERTED.sub(
        lambda found: f'"{found[1]}" is not {_KINDS.get(found[2], "of the form it must have")}',
        str(error),
    )
    text = _UNUSED.sub(lambda found: f"unexpected arguments: {found[1]}", text)
    words: list[str] = []
    for token in tokens:
        if not re.fullmatch(r"[a-z]+", token):
            break
        words.append(token)
    known = [*(error.command_chain or ())] or ([] if text.startswith("Unknown command") else words)
    asked = " ".join(["hogsend", *known, "--help"])
    return CommandError(text, f"`{asked}` shows how it is used", exit_code=ExitCode.USAGE)


def _from_system(error: OSError) -> CommandError:
    said = error.strerror or "the operating system refused"
    if error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        return CommandError(
            f"{name or 'a file'}: {said}",
            "name a file or directory that this user may use, on a disk with room",
        )
    return CommandError(said, "check that the disk has room and the machine has memory left")


def _fault(error: BaseException) -> CommandError:
    return CommandError(
        f"a fault of the command itself: {error}"
        if str(error)
        else "a fault of the command itself",
        f"report it, with what it prints when {TRACEBACK}=1 is set",
    )


def _discard_output() -> None:
    """Point stdout and stderr nowhere if they take nothing: Python flushes them at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
